// y (M, N) = x (M, K) times the transpose of w (N, K), for the many rows of a prompt; and two such
// products joined as a SwiGLU wants them.
//
// Work goes to threads in small pieces, so that one that is held up holds nobody up. Sums over K
// are in one order whatever the rows beside and the threads.

#include "team.h"
#include "tiles.h"

namespace {

constexpr int64_t DEEP = 512;    // of K at a time: a panel of it stays near
constexpr int64_t BLOCKS = 12;   // of rows that pass a thread's panels before the next
constexpr int64_t PANELS = 4;    // of a thread at a time, at most
constexpr int64_t PIECES = 16;   // for the threads, at least, where there are so many panels

struct Shape {
  int64_t m, n, k;
  int64_t blocks() const { return (m + BLOCK - 1) / BLOCK; }
  int64_t panels() const { return (n + PANEL - 1) / PANEL; }
};

// Rows of x in blocks, turned: what panels of w are multiplied with.
Scratch blocks_of(const Shape &size, const float *x) {
  Scratch packed(size.blocks() * BLOCK * size.k);
  Team::get().run(size.blocks(), [&](int64_t block) {
    const int64_t first = block * BLOCK;
    pack_rows<BLOCK>(x + first * size.k, size.k, std::min<int64_t>(BLOCK, size.m - first), size.k,
                     packed.get() + first * size.k);
  });
  return packed;
}

// Panels first..end-1 of w against all packed rows of x; y's lines begin at the first one's column.
void strip(const Shape &size, const float *packed, const float *w, int64_t first, int64_t end,
           float *y, int64_t line) {
  Scratch room((end - first) * DEEP * PANEL);
  for (int64_t k = 0; k < size.k; k += DEEP) {
    const int64_t deep = std::min(DEEP, size.k - k);
    for (int64_t p = first; p < end; ++p)
      pack_rows<PANEL>(w + p * PANEL * size.k + k, size.k,
                       std::min<int64_t>(PANEL, size.n - p * PANEL), deep,
                       room.get() + (p - first) * DEEP * PANEL);
    for (int64_t from = 0; from < size.blocks(); from += BLOCKS)
      for (int64_t p = first; p < end; ++p)
        for (int64_t block = from; block < std::min(size.blocks(), from + BLOCKS); ++block)
          block_by_panel(std::min<int64_t>(BLOCK, size.m - block * BLOCK),
                         packed + (block * size.k + k) * BLOCK,
                         room.get() + (p - first) * DEEP * PANEL, deep,
                         y + block * BLOCK * line + (p - first) * PANEL, line,
                         std::min<int64_t>(PANEL, size.n - p * PANEL), k > 0);
  }
}

// each(first, end) for pieces of the panels, from several threads.
template <class Each>
void pieces(const Shape &size, const Each &each) {
  const int64_t many = std::clamp<int64_t>(size.panels() / PIECES, 1, PANELS);
  Team::get().run((size.panels() + many - 1) / many, [&](int64_t piece) {
    each(piece * many, std::min(size.panels(), (piece + 1) * many));
  });
}

}  // namespace

extern "C" int matmul(int, void **data, int *, int64_t **shape, const char **, void *, void *) {
  const float *w = (const float *)data[1];
  float *y = (float *)data[2];
  const Shape size{shape[0][0], shape[1][0], shape[0][1]};
  const Scratch packed = blocks_of(size, (const float *)data[0]);
  pieces(size, [&](int64_t first, int64_t end) {
    strip(size, packed.get(), w, first, end, y + first * PANEL, size.n);
  });
  return 0;
}

// x (M, K), gate and up (N, K) -> silu of x's product with gate, times that with up: (M, N)
extern "C" int gated_matmul(int, void **data, int *, int64_t **shape, const char **, void *,
                            void *) {
  const Shape size{shape[0][0], shape[1][0], shape[0][1]};
  const Scratch packed = blocks_of(size, (const float *)data[0]);
  pieces(size, [&](int64_t first, int64_t end) {
    const int64_t line = (end - first) * PANEL, columns = std::min(line, size.n - first * PANEL);
    const Scratch room(2 * size.m * line);
    float *gate = room.get(), *up = gate + size.m * line;
    strip(size, packed.get(), (const float *)data[1], first, end, gate, line);
    strip(size, packed.get(), (const float *)data[2], first, end, up, line);
    for (int64_t row = 0; row < size.m; ++row) {
      float *out = (float *)data[3] + row * size.n + first * PANEL;
      for (int64_t c = 0; c < columns; c += LANES) {
        const int64_t count = std::min<int64_t>(LANES, columns - c);
        const Floats g = some(gate + row * line + c, count);
        keep(out + c, g * sigmoid(g) * some(up + row * line + c, count), count);
      }
    }
  });
  return 0;
}
