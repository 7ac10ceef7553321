// Attention of many rows with a bias of any form, such as a causal one: what it hides as a whole
// is not computed.
//
//     q (B, H, T, D), k and v (B, G, S, D), bias (B or 1, 1, T, S) -> (B, T, H * D)
//
// Rows of queries are taken BLOCK_ROWS at a time, each with all weights it needs, so that softmax
// is the ordinary one. A row from which everything is hidden gives 0. Matrices of keys and values
// stand turned in panels of PANEL keys, see tiles.h. In training a share of the weights may be
// dropped, see drop.h.

#include <vector>

#include "drop.h"
#include "team.h"
#include "tiles.h"

namespace {

constexpr int64_t BLOCK_ROWS = 32;
constexpr float HIDDEN = -1e38f;  // what is added to hidden scores is less

struct Shape {
  int64_t batch, heads, groups, rows, keys, width, biases;
  int64_t blocks() const { return (rows + BLOCK_ROWS - 1) / BLOCK_ROWS; }
  int64_t panels() const { return (keys + PANEL - 1) / PANEL; }
  float scale() const { return 1.0f / std::sqrt(float(width)); }
};

Shape shape_of(int64_t **of) {
  return {of[0][0], of[0][1], of[1][1], of[0][2], of[1][2], of[0][3], of[3][0]};
}

// Rows first..first+rows-1 of one head, and where they stand.
struct Block {
  int64_t number, first, rows, group, table;
  int64_t query;   // place in q
  int64_t out;     // place in the output
  int64_t weight;  // place among all weights (B, H, T, S)
  Block(const Shape &size, int64_t b, int64_t h, int64_t block)
      : number(block), first(block * BLOCK_ROWS), rows(std::min(BLOCK_ROWS, size.rows - first)),
        group(b * size.groups + h / (size.heads / size.groups)), table(size.biases == 1 ? 0 : b),
        query(((b * size.heads + h) * size.rows + first) * size.width),
        out(((b * size.rows + first) * size.heads + h) * size.width),
        weight(((b * size.heads + h) * size.rows + first) * size.keys) {}
};

// Panels from..to-1 hold all that a block sees; `end` is the last of their keys, plus one.
struct Span {
  int64_t from, to, end;
};

// x (B, G, S, D) as panels[d][PANEL] of each group.
Scratch turned(const Shape &size, const float *x) {
  const int64_t panels = size.panels(), d = size.width;
  Scratch to(size.batch * size.groups * panels * PANEL * d);
  Team::get().run(size.batch * size.groups * panels, [&](int64_t piece) {
    const int64_t key = piece % panels * PANEL;
    pack_rows<PANEL>(x + (piece / panels * size.keys + key) * d, d,
                     std::min<int64_t>(PANEL, size.keys - key), d, to.get() + piece * d * PANEL);
  });
  return to;
}

// scores + bias -> softmax within a span; keys that are not seen, or beyond the last, get 0.
void soften(float *scores, const float *bias, const char *seen, const Span &span) {
  const int64_t from = span.from * PANEL, edge = span.to * PANEL;
  Floats top = every(-INFINITY);
  for (int64_t key = from; key < edge; key += LANES) {
    const int64_t count = std::min<int64_t>(LANES, span.end - key);
    Floats value = every(-INFINITY);
    if (seen[key / PANEL] && count == LANES) {
      value = load(scores + key) + load(bias + key);
    } else if (seen[key / PANEL] && count > 0) {
      for (int64_t i = 0; i < count; ++i) value[i] = scores[key + i] + bias[key + i];
    }
    store(scores + key, value);
    top = value > top ? value : top;
  }
  const float highest = largest(top);
  const bool nothing = !(highest > HIDDEN);
  Floats sum = {};
  for (int64_t key = from; key < edge; key += LANES) {
    const Floats value = nothing ? Floats{} : exponential(load(scores + key) - highest);
    store(scores + key, value);
    sum += value;
  }
  const float share = nothing ? 0.0f : 1.0f / total(sum);
  for (int64_t key = from; key < edge; key += LANES) store(scores + key, load(scores + key) * share);
}

// What the bias lets be seen, by panels of keys.
class Seen {
 public:
  Seen(const Shape &size, const float *bias)
      : size_(size), bias_(bias),
        seen_(static_cast<size_t>(size.biases * size.blocks() * size.panels())) {
    Team::get().run(size.biases * size.blocks(), [&](int64_t piece) { look(piece); });
  }

  // (panels,): which of them some row of a block sees.
  const char *panels(const Block &block) const {
    return seen_.data() + (block.table * size_.blocks() + block.number) * size_.panels();
  }

  // The softmax of a block into weights (rows, panels * PANEL), and its scaled rows of q.
  Span weigh(const Block &block, const float *q, const float *keys, float *query,
             float *weights) const {
    const int64_t d = size_.width, line = size_.panels() * PANEL;
    for (int64_t i = 0; i < block.rows * d; ++i) query[i] = q[block.query + i] * size_.scale();
    Span span{0, 0, 0};
    for (int64_t panel = 0; panel < size_.panels(); ++panel) {
      if (!panels(block)[panel]) continue;
      if (span.to == 0) span.from = panel;
      span.to = panel + 1;
      rows_by_panel(block.rows, query, d, keys + (block.group * size_.panels() + panel) * d * PANEL,
                    PANEL, d, weights + panel * PANEL, line, PANEL);
    }
    span.end = std::min(size_.keys, span.to * PANEL);
    for (int64_t row = 0; row < block.rows; ++row)
      soften(weights + row * line,
             bias_ + (block.table * size_.rows + block.first + row) * size_.keys, panels(block),
             span);
    return span;
  }

 private:
  void look(int64_t piece) {
    const int64_t first = piece % size_.blocks() * BLOCK_ROWS;
    const int64_t last = std::min(size_.rows, first + BLOCK_ROWS);
    const float *table = bias_ + piece / size_.blocks() * size_.rows * size_.keys;
    for (int64_t panel = 0; panel < size_.panels(); ++panel) {
      const int64_t end = std::min(size_.keys, (panel + 1) * PANEL);
      bool any = false;
      for (int64_t row = first; row < last && !any; ++row)
        for (int64_t key = panel * PANEL; key < end && !any; ++key)
          any = table[row * size_.keys + key] > HIDDEN;
      seen_[piece * size_.panels() + panel] = any;
    }
  }

  const Shape size_;
  const float *bias_;
  std::vector<char> seen_;
};

// Slopes of weights -> slopes of scores, both within a span; 0 where a panel is not seen.
void through_softmax(const float *weights, float *slopes, const char *seen, const Span &span) {
  Floats sum = {};
  for (int64_t key = span.from * PANEL; key < span.to * PANEL; key += LANES)
    if (seen[key / PANEL]) sum += load(weights + key) * load(slopes + key);
  const float mean = total(sum);
  for (int64_t key = span.from * PANEL; key < span.to * PANEL; key += LANES)
    store(slopes + key, seen[key / PANEL] ? load(weights + key) * (load(slopes + key) - mean)
                                          : Floats{});
}

// The same factors for the weights of a block and for their slopes.
void drop_some(const Drop *drop, const Shape &size, const Block &block, const Span &span,
               float *weights) {
  const int64_t start = span.from * PANEL, line = size.panels() * PANEL;
  for (int64_t row = 0; drop && row < block.rows; ++row)
    drop->row(weights + row * line + start, span.to * PANEL - start,
              block.weight + row * size.keys + start);
}

void copy_rows(const float *from, int64_t line, int64_t rows, int64_t width, float *to) {
  for (int64_t i = 0; i < rows; ++i) std::copy_n(from + i * line, width, to + i * width);
}

// data: q, k, v, bias.
void attend(const Shape &size, void **data, const Drop *drop, float *to) {
  const float *v = (const float *)data[2];
  const Seen seen(size, (const float *)data[3]);
  const Scratch keys = turned(size, (const float *)data[1]);
  const int64_t d = size.width, line = size.panels() * PANEL, all = size.batch * size.heads;
  Team::get().run(all * size.blocks(), [&](int64_t piece) {
    // Later blocks see more keys: they come first, so that threads end together.
    const int64_t head = piece % all, number = size.blocks() - 1 - piece / all;
    const Block block(size, head / size.heads, head % size.heads, number);
    Scratch room(BLOCK_ROWS * (line + d));
    float *weights = room.get(), *query = weights + BLOCK_ROWS * line;
    const Span span = seen.weigh(block, (const float *)data[0], keys.get(), query, weights);
    drop_some(drop, size, block, span, weights);
    const int64_t start = span.from * PANEL;
    const float *value = v + (block.group * size.keys + start) * d;
    float *out = to + block.out;
    for (int64_t c = 0; c < d; c += PANEL)
      rows_by_panel(block.rows, weights + start, line, value + c, d, span.end - start, out + c,
                    size.heads * d, std::min<int64_t>(PANEL, d - c));
  });
}

// data: q, k, v, bias; to: slopes of q, k and v. A thread takes a group of heads, so that what
// their keys gather has one order.
void attend_back(const Shape &size, void **data, const float *slope, const Drop *drop, void **to) {
  const float *k = (const float *)data[1], *v = (const float *)data[2];
  const Seen seen(size, (const float *)data[3]);
  const Scratch keys = turned(size, k), values = turned(size, v);
  const int64_t d = size.width, line = size.panels() * PANEL, shared = size.heads / size.groups;
  float *by_q = (float *)to[0], *by_k = (float *)to[1], *by_v = (float *)to[2];
  Team::get().run(size.batch * size.groups, [&](int64_t group) {
    const int64_t b = group / size.groups, own = group * size.keys * d;
    std::fill(by_k + own, by_k + own + size.keys * d, 0.0f);
    std::fill(by_v + own, by_v + own + size.keys * d, 0.0f);
    Scratch room(BLOCK_ROWS * (2 * line + 2 * d));
    float *weights = room.get(), *slopes = weights + BLOCK_ROWS * line;
    float *query = slopes + BLOCK_ROWS * line, *down = query + BLOCK_ROWS * d;
    for (int64_t i = 0; i < shared * size.blocks(); ++i) {
      const int64_t h = group % size.groups * shared + i / size.blocks();
      const Block block(size, b, h, i % size.blocks());
      const Span span = seen.weigh(block, (const float *)data[0], keys.get(), query, weights);
      copy_rows(slope + block.out, size.heads * d, block.rows, d, down);
      for (int64_t panel = span.from; panel < span.to; ++panel)
        if (seen.panels(block)[panel])
          rows_by_panel(block.rows, down, d, values.get() + (group * size.panels() + panel) * d * PANEL,
                        PANEL, d, slopes + panel * PANEL, line, PANEL);
      drop_some(drop, size, block, span, slopes);
      for (int64_t row = 0; row < block.rows; ++row)
        through_softmax(weights + row * line, slopes + row * line, seen.panels(block), span);
      drop_some(drop, size, block, span, weights);
      const int64_t start = span.from * PANEL, count = span.end - start;
      const int64_t place = own + start * d;
      float *by_query = by_q + block.query;
      for (int64_t c = 0; c < d; c += PANEL) {
        const int64_t width = std::min<int64_t>(PANEL, d - c);
        rows_by_panel(block.rows, slopes + start, line, k + place + c, d, count, by_query + c, d,
                      width);
        columns_by_panel(count, weights + start, line, down + c, d, block.rows, by_v + place + c, d,
                         width);
        columns_by_panel(count, slopes + start, line, query + c, d, block.rows, by_k + place + c, d,
                         width);
      }
      for (int64_t j = 0; j < block.rows * d; ++j) by_query[j] *= size.scale();
    }
  });
}

}  // namespace

// q, k, v, bias -> out (B, T, H * D).
extern "C" int attention(int, void **data, int *, int64_t **shape, const char **, void *, void *) {
  attend(shape_of(shape), data, nullptr, (float *)data[4]);
  return 0;
}

// q, k, v, bias, slope of out -> slopes of q, k and v.
extern "C" int attention_grad(int, void **data, int *, int64_t **shape, const char **, void *,
                              void *) {
  attend_back(shape_of(shape), data, (const float *)data[4], nullptr, data + 5);
  return 0;
}

// q, k, v, bias, settings (threshold, seed) -> out, and the seed that was used (1).
extern "C" int dropped_attention(int, void **data, int *, int64_t **shape, const char **, void *,
                                 void *) {
  const uint32_t *settings = (const uint32_t *)data[4];
  uint32_t *seed = (uint32_t *)data[6];
  *seed = seed_of((const float *)data[0], product_of(shape[0], 4), settings[1]);
  const Drop drop(settings[0], *seed);
  attend(shape_of(shape), data, &drop, (float *)data[5]);
  return 0;
}

// q, k, v, bias, settings, the seed that was used, slope of out -> slopes of q, k and v.
extern "C" int dropped_attention_grad(int, void **data, int *, int64_t **shape, const char **,
                                      void *, void *) {
  const Drop drop(*(const uint32_t *)data[4], *(const uint32_t *)data[5]);
  attend_back(shape_of(shape), data, (const float *)data[6], &drop, data + 7);
  return 0;
}
