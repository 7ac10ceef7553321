// y (rows, N) = x (rows, K) times the transpose of w (N, K), for few rows and weights in 32, 16 or
// 8 bits: decoding reads every weight once for all rows and is as fast as memory gives them.
//
// Sums are float32 and in one order whatever the stored form, the rows beside it, and the threads.
// 8-bit weights have a float32 scale for each GROUP of columns: w[n][k] * scale[n][k / GROUP].

#include <algorithm>

#include "team.h"
#include "vectors.h"

namespace {

constexpr int64_t GROUP = 64;             // emu3/nn/forms.py has it, too
constexpr int64_t PIECE_BYTES = 1 << 16;  // of weights a thread takes at a time

template <class Weight>
struct Matrix {
  const Weight *values;
  const float *scales;  // (N, groups), of 8-bit weights alone
  int64_t size, columns;
  int64_t groups() const { return (columns + GROUP - 1) / GROUP; }
};

// y[i][n + j] for i < few, j < many; the sums have to fit the registers.
template <int few, int many, class Weight>
inline void tile(const float *x, const Matrix<Weight> &w, float *y, int64_t n) {
  const int64_t columns = w.columns;
  const Weight *line[many];
  for (int j = 0; j < many; ++j) line[j] = w.values + (n + j) * columns;
  Floats sum[few][many] = {};

  auto add = [&](Floats(&into)[few][many], int64_t begin, int64_t end) {
    int64_t k = begin;
    for (; k + LANES <= end; k += LANES) {
      Floats value[many];
      for (int j = 0; j < many; ++j) {
        value[j] = load(line[j] + k);
        // The next tile's line: each is too short for the processor to foresee.
        __builtin_prefetch(line[j] + many * columns + k, 0, 3);
      }
      for (int i = 0; i < few; ++i) {
        const Floats input = load(x + i * columns + k);
        for (int j = 0; j < many; ++j) into[i][j] += input * value[j];
      }
    }
    if (k == end) return;
    for (int j = 0; j < many; ++j) {
      const Floats value = load_some(line[j] + k, end - k);
      for (int i = 0; i < few; ++i) into[i][j] += load_some(x + i * columns + k, end - k) * value;
    }
  };

  if constexpr (sizeof(Weight) == 1) {
    const int64_t groups = w.groups();
    for (int64_t g = 0; g < groups; ++g) {
      Floats part[few][many] = {};
      add(part, g * GROUP, std::min(columns, (g + 1) * GROUP));
      for (int j = 0; j < many; ++j) {
        const float scale = w.scales[(n + j) * groups + g];
        for (int i = 0; i < few; ++i) sum[i][j] += part[i][j] * scale;
      }
    }
  } else {
    add(sum, 0, columns);
  }
  for (int i = 0; i < few; ++i)
    for (int j = 0; j < many; ++j) y[i * w.size + n + j] = total(sum[i][j]);
}

// Output columns n..end-1 of `few` rows.
template <int few, class Weight>
void strip(const float *x, const Matrix<Weight> &w, float *y, int64_t n, int64_t end) {
  constexpr int many = few <= 4 ? 4 : 2;
  for (; n + many <= end; n += many) tile<few, many>(x, w, y, n);
  for (; n < end; ++n) tile<few, 1>(x, w, y, n);
}

// A piece of the weights comes from memory once and serves all rows from the cache.
template <class Weight>
int product(const float *x, const Matrix<Weight> &w, float *y, int64_t count) {
  const int64_t bytes = w.columns * int64_t(sizeof(Weight));
  const int64_t lines = std::max<int64_t>(8, PIECE_BYTES / bytes / 8 * 8);
  Team::get().run((w.size + lines - 1) / lines, [&](int64_t piece) {
    const int64_t n = piece * lines, end = std::min(w.size, n + lines);
    for (int64_t r = 0, few; r < count; r += few) {
      const float *from = x + r * w.columns;
      float *to = y + r * w.size;
      few = count - r >= 8 ? 8 : count - r >= 4 ? 4 : count - r >= 2 ? 2 : 1;
      if (few == 8) strip<8>(from, w, to, n, end);
      if (few == 4) strip<4>(from, w, to, n, end);
      if (few == 2) strip<2>(from, w, to, n, end);
      if (few == 1) strip<1>(from, w, to, n, end);
    }
  });
  return 0;
}

}  // namespace

// MindSpore's signature: how many, pointers, numbers of axes and shapes of inputs and output.
#define EMU3_PRODUCT(name, Weight, scales, output)                                              \
  extern "C" int name(int, void **data, int *, int64_t **shape, const char **, void *, void *) { \
    const Matrix<Weight> w{(const Weight *)data[1], scales, shape[1][0], shape[1][1]};          \
    return product((const float *)data[0], w, (float *)data[output], shape[0][0]);              \
  }

EMU3_PRODUCT(product_float32, float, nullptr, 2)
EMU3_PRODUCT(product_bfloat16, uint16_t, nullptr, 2)
EMU3_PRODUCT(product_int8, int8_t, (const float *)data[2], 3)
