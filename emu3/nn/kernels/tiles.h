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

// Turns LANES rows of LANES numbers: row i becomes column i. Squares of `half` rows and lanes change
// places within those of twice the side, from the largest to single numbers.
template <int half = LANES / 2>
inline void turn(Floats *rows) {
  if constexpr (half > 0) {
    for (int i = 0; i < LANES; ++i) {
      if (i & half) continue;
      const Floats upper = rows[i], lower = rows[i + half];
      rows[i] = woven<half, false>(upper, lower);
      rows[i + half] = woven<half, true>(upper, lower);
    }
    turn<half / 2>(rows);
  }
}

// Rows first.. of pack_rows, up to LANES of them, for numbers k..k+deep-1.
template <int room, int first>
inline void pack_square(const float *x, int64_t x_line, int64_t count, int64_t k, int64_t deep,
                        float *to) {
  constexpr int width = std::min(LANES, room - first);
  Floats rows[LANES] = {};
  for (int i = 0; i < width && first + i < count; ++i)
    rows[i] = some(x + (first + i) * x_line + k, deep);
  turn(rows);
  for (int64_t j = 0; j < deep; ++j) store_first(to + (k + j) * room + first, rows[j], width);
  if constexpr (first + LANES < room)
    pack_square<room, first + LANES>(x, x_line, count, k, deep, to);
}

// Rows x[0..count) of `size` numbers as columns of a panel or a block: to[k * room + row], zeros
// in what is left of `room`.
template <int room>
inline void pack_rows(const float *x, int64_t x_line, int64_t count, int64_t size, float *to) {
  for (int64_t k = 0; k < size; k += LANES)
    pack_square<room, 0>(x, x_line, count, k, std::min<int64_t>(LANES, size - k), to);
}
