// y (rows, N) = x (rows, K) times the transpose of w (N, K), for few rows and weights in 32, 16 or
// 8 bits: decoding reads every weight once for all rows and is as fast as memory gives them.
//
// Sums are float32 and in one order whatever the stored form, the rows beside it, and the threads.
// 8-bit weights have a float32 scale for each GROUP of columns: w[n][k] * scale[n][k / GROUP].

#include <algorithm>
#include <vector>

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
inline void tile(const float *x, const Matrix<Weight> &w, float *y, int64_t stride, int64_t n) {
  const int64_t columns = w.columns;
  const Weight *line[many];
  for (int j = 0; j < many; ++j) line[j] = w.values + (n + j) * columns;
  Floats sum[few][many] = {};

  auto add = [&](int64_t begin, int64_t end, auto scaled) {
    int64_t k = begin;
    for (; k + LANES <= end; k += LANES) {
      Floats value[many];
      for (int j = 0; j < many; ++j) {
        value[j] = scaled(load(line[j] + k), j);
        // The next tile's line: each is too short for the processor to foresee.
        __builtin_prefetch(line[j] + many * columns + k, 0, 3);
      }
      for (int i = 0; i < few; ++i) {
        const Floats input = load(x + i * columns + k);
        for (int j = 0; j < many; ++j) sum[i][j] += input * value[j];
      }
    }
    if (k == end) return;
    for (int j = 0; j < many; ++j) {
      const Floats value = scaled(load_some(line[j] + k, end - k), j);
      for (int i = 0; i < few; ++i) sum[i][j] += load_some(x + i * columns + k, end - k) * value;
    }
  };

  if constexpr (sizeof(Weight) == 1) {
    const int64_t groups = w.groups();
    for (int64_t g = 0; g < groups; ++g) {
      float scale[many];
      for (int j = 0; j < many; ++j) scale[j] = w.scales[(n + j) * groups + g];
      add(g * GROUP, std::min(columns, (g + 1) * GROUP),
          [&](Floats value, int j) { return value * scale[j]; });
    }
  } else {
    add(0, columns, [](Floats value, int) { return value; });
  }
  for (int i = 0; i < few; ++i)
    for (int j = 0; j < many; ++j) y[i * stride + n + j] = total(sum[i][j]);
}

// Output columns n..end-1 of `few` rows.
template <int few, class Weight>
void strip(const float *x, const Matrix<Weight> &w, float *y, int64_t stride, int64_t n,
           int64_t end) {
  constexpr int many = few == 1 && sizeof(Weight) > 1 ? 8 : 4;
  for (; n + many <= end; n += many) tile<few, many>(x, w, y, stride, n);
  for (; n < end; ++n) tile<few, 1>(x, w, y, stride, n);
}

// Output columns n..end-1 of `count` rows: the weights come from memory once, then from the cache.
template <class Weight>
void piece(const float *x, int64_t count, const Matrix<Weight> &w, float *y, int64_t stride,
           int64_t n, int64_t end) {
  for (int64_t r = 0, few; r < count; r += few) {
    const float *from = x + r * w.columns;
    float *to = y + r * stride;
    few = count - r >= 8 ? 8 : count - r >= 4 ? 4 : count - r >= 2 ? 2 : 1;
    if (few == 8) strip<8>(from, w, to, stride, n, end);
    if (few == 4) strip<4>(from, w, to, stride, n, end);
    if (few == 2) strip<2>(from, w, to, stride, n, end);
    if (few == 1) strip<1>(from, w, to, stride, n, end);
  }
}

// The products with one matrix or several, side by side.
template <class Weight>
int products(int tensors, void **data, int64_t **shape) {
  const int each = sizeof(Weight) == 1 ? 2 : 1;
  const int matrices = (tensors - 2) / each;
  const int64_t count = shape[0][0], columns = shape[0][1], stride = shape[tensors - 1][1];
  const int64_t lines = std::max<int64_t>(8, PIECE_BYTES / (columns * int64_t(sizeof(Weight))));
  std::vector<Matrix<Weight>> w;
  std::vector<int64_t> pieces{0};
  for (int m = 0; m < matrices; ++m) {
    const float *scales = each == 2 ? (const float *)data[1 + matrices + m] : nullptr;
    w.push_back({(const Weight *)data[1 + m], scales, shape[1 + m][0], columns});
    pieces.push_back(pieces.back() + (w[m].size + lines - 1) / lines);
  }
  Team::get().run(pieces.back(), [&](int64_t number) {
    float *y = (float *)data[tensors - 1];
    int m = 0;
    for (; number >= pieces[m + 1]; ++m) y += w[m].size;
    const int64_t n = (number - pieces[m]) * lines;
    piece((const float *)data[0], count, w[m], y, stride, n, std::min(w[m].size, n + lines));
  });
  return 0;
}

// One line of a matrix as float32.
template <class Weight>
void widen(const Matrix<Weight> &w, int64_t line, float *to) {
  const Weight *from = w.values + line * w.columns;
  for (int64_t k = 0; k < w.columns; k += GROUP) {
    const float scale = sizeof(Weight) == 1 ? w.scales[line * w.groups() + k / GROUP] : 1;
    const int64_t end = std::min(w.columns, k + GROUP);
    for (int64_t at = k; at < end; at += LANES) {
      const int64_t some = std::min<int64_t>(LANES, end - at);
      const Floats values = (some == LANES ? load(from + at) : load_some(from + at, some)) * scale;
      std::memcpy(to + at, &values, some * sizeof(float));
    }
  }
}

// Lines `ids` of a matrix, or all where `ids` is null.
template <class Weight>
int lines(const int32_t *ids, int64_t count, const Matrix<Weight> &w, float *to) {
  const int64_t some = std::max<int64_t>(1, PIECE_BYTES / (w.columns * int64_t(sizeof(float))));
  Team::get().run((count + some - 1) / some, [&](int64_t piece) {
    const int64_t end = std::min(count, (piece + 1) * some);
    for (int64_t i = piece * some; i < end; ++i)
      widen(w, ids == nullptr ? i : ids[i], to + i * w.columns);
  });
  return 0;
}

int64_t all(const int64_t *shape, int axes) {
  int64_t count = 1;
  for (int axis = 0; axis < axes; ++axis) count *= shape[axis];
  return count;
}

}  // namespace

// MindSpore's signature: how many, pointers, numbers of axes and shapes of inputs and output.
// Inputs: x (R, K), matrices (N, K), of 8 bits their scales (N, groups) | ids int32, a matrix,
// its scales | a matrix, its scales.
#define EMU3_FORM(form, Weight)                                                                 \
  extern "C" int product_##form(int count, void **data, int *, int64_t **shape, const char **,  \
                                void *, void *) {                                               \
    return products<Weight>(count, data, shape);                                                \
  }                                                                                             \
  extern "C" int lines_##form(int count, void **data, int *axes, int64_t **shape,               \
                              const char **, void *, void *) {                                  \
    const Matrix<Weight> w{(const Weight *)data[1], (const float *)data[2], shape[1][0],        \
                           shape[1][1]};                                                        \
    return lines((const int32_t *)data[0], all(shape[0], axes[0]), w, (float *)data[count - 1]); \
  }                                                                                             \
  extern "C" int widen_##form(int count, void **data, int *, int64_t **shape, const char **,    \
                              void *, void *) {                                                 \
    const Matrix<Weight> w{(const Weight *)data[0], (const float *)data[1], shape[0][0],        \
                           shape[0][1]};                                                        \
    return lines<Weight>(nullptr, w.size, w, (float *)data[count - 1]);                         \
  }

EMU3_FORM(float32, float)
EMU3_FORM(bfloat16, uint16_t)
EMU3_FORM(int8, int8_t)
