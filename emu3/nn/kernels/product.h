// y (rows, N) = x (rows, K) times the transpose of w (N, K), for few rows and weights in 32, 16 or
// 8 bits: decoding reads every weight once for all rows and is as fast as memory gives them.
//
// Sums are float32 and in one order whatever the stored form, the rows beside it, and the threads.
// 8-bit weights have a float32 scale for each GROUP of columns: w[n][k] * scale[n][k / GROUP].

#pragma once

#include <algorithm>
#include <vector>

#include "team.h"
#include "vectors.h"

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

  Floats sum[few * many] = {};

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
        for (int j = 0; j < many; ++j) sum[i * many + j] += input * value[j];
      }
    }
    if (k == end) return;
    for (int j = 0; j < many; ++j) {
      const Floats value = scaled(load_some(line[j] + k, end - k), j);
      for (int i = 0; i < few; ++i)
        sum[i * many + j] += load_some(x + i * columns + k, end - k) * value;
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
  constexpr int block = std::min(few * many, LANES);
  float out[few * many];
  for (int first = 0; first < few * many; first += block) totals<block>(sum + first, out + first);
  for (int i = 0; i < few; ++i)
    for (int j = 0; j < many; ++j) y[i * stride + n + j] = out[i * many + j];
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

// The products with one matrix or several, side by side, of `count` rows x: y (count, stride), to
// which `plus` of that shape, if there is one, is added.
template <class Weight>
void products(const float *x, int64_t count, const std::vector<Matrix<Weight>> &w, float *y,
              int64_t stride, const float *plus = nullptr) {
  const int64_t columns = w[0].columns;
  const int64_t lines = std::max<int64_t>(8, PIECE_BYTES / (columns * int64_t(sizeof(Weight))));
  std::vector<int64_t> pieces{0};
  for (const auto &matrix : w) pieces.push_back(pieces.back() + (matrix.size + lines - 1) / lines);
  Team::get().run(pieces.back(), [&](int64_t number) {
    int64_t m = 0, before = 0;
    for (; number >= pieces[m + 1]; ++m) before += w[m].size;
    const int64_t n = (number - pieces[m]) * lines, end = std::min(w[m].size, n + lines);
    piece(x, count, w[m], y + before, stride, n, end);
    if (plus == nullptr) return;
    for (int64_t r = 0; r < count; ++r)
      for (int64_t i = r * stride + before + n; i < r * stride + before + end; ++i) y[i] += plus[i];
  });
}
