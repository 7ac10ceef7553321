// Products of matrices in tiles that fit the registers: c (m, n) = a (m, k) times b (k, n).
//
// b stands in panels of PANEL columns, b[k][PANEL], or is read PANEL columns at a time from rows.
#pragma once

#include "arithmetic.h"

#if defined(__AVX512F__)
constexpr int BLOCK = 8, BANKS = 2;
#elif defined(__AVX__)
constexpr int BLOCK = 6, BANKS = 2;
#else
constexpr int BLOCK = 6, BANKS = 4;
#endif
constexpr int PANEL = BANKS * LANES;

// One tile of `rows` rows and the first `width` columns of a panel; `add` to what c holds.
// a's numbers stand at a[row * down + k * along]; `whole` = all PANEL columns.
template <int rows, bool whole>
inline void tile(const float *a, int64_t down, int64_t along, const float *b, int64_t b_line,
                 int64_t size, float *c, int64_t c_line, int64_t width, bool add) {
  auto place = [&](int bank) { return whole ? LANES : std::clamp<int64_t>(width - bank * LANES, 0, LANES); };
  Floats sum[rows][BANKS] = {};
  for (int64_t k = 0; k < size; ++k, a += along, b += b_line) {
    Floats column[BANKS];
    for (int j = 0; j < BANKS; ++j) column[j] = load_first(b + j * LANES, place(j));
    for (int i = 0; i < rows; ++i) {
      const Floats value = every(a[i * down]);
      for (int j = 0; j < BANKS; ++j) sum[i][j] += value * column[j];
    }
  }
  for (int i = 0; i < rows; ++i, c += c_line)
    for (int j = 0; j < BANKS; ++j) {
      float *to = c + j * LANES;
      store_first(to, add ? load_first(to, place(j)) + sum[i][j] : sum[i][j], place(j));
    }
}

// c (m, width) = or += a times one panel; a's rows stand `down`, its columns `along` apart.
template <bool whole>
inline void tiles(int64_t m, const float *a, int64_t down, int64_t along, const float *b,
                  int64_t b_line, int64_t size, float *c, int64_t c_line, int64_t width, bool add) {
  for (; m >= BLOCK; m -= BLOCK, a += BLOCK * down, c += BLOCK * c_line)
    tile<BLOCK, whole>(a, down, along, b, b_line, size, c, c_line, width, add);
  for (; m > 0; --m, a += down, c += c_line)
    tile<1, whole>(a, down, along, b, b_line, size, c, c_line, width, add);
}

// c (m, width) = a (m, size) times one panel.
inline void rows_by_panel(int64_t m, const float *a, int64_t a_line, const float *b, int64_t b_line,
                          int64_t size, float *c, int64_t c_line, int64_t width) {
  if (width == PANEL) {
    tiles<true>(m, a, a_line, 1, b, b_line, size, c, c_line, width, false);
  } else {
    tiles<false>(m, a, a_line, 1, b, b_line, size, c, c_line, width, false);
  }
}

// c (m, width) += the transpose of a (size, m), times one panel.
inline void columns_by_panel(int64_t m, const float *a, int64_t a_line, const float *b,
                             int64_t b_line, int64_t size, float *c, int64_t c_line,
                             int64_t width) {
  if (width == PANEL) {
    tiles<true>(m, a, 1, a_line, b, b_line, size, c, c_line, width, true);
  } else {
    tiles<false>(m, a, 1, a_line, b, b_line, size, c, c_line, width, true);
  }
}

// c (rows, width) = or += a packed block a[k][BLOCK] times one panel.
inline void block_by_panel(int64_t rows, const float *a, const float *b, int64_t size, float *c,
                           int64_t c_line, int64_t width, bool add) {
  if (width == PANEL) {
    tiles<true>(rows, a, 1, BLOCK, b, PANEL, size, c, c_line, width, add);
  } else {
    tiles<false>(rows, a, 1, BLOCK, b, PANEL, size, c, c_line, width, add);
  }
}

// Rows x[0..count) of `size` numbers as columns of a panel or a block: to[k * room + row], zeros
// in what is left of `room`.
inline void pack_rows(const float *x, int64_t x_line, int64_t count, int64_t size, int64_t room,
                      float *to) {
  constexpr int64_t STRETCH = 16;
  for (int64_t k = 0; k < size; k += STRETCH) {
    const int64_t end = std::min(size, k + STRETCH);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = k; j < end; ++j) to[j * room + i] = x[i * x_line + j];
    for (int64_t i = count; i < room; ++i)
      for (int64_t j = k; j < end; ++j) to[j * room + i] = 0.0f;
  }
}
