// Products of float32 matrices whose values are rounded to bfloat16 first, two of them multiplied at
// a time where the processor can (AVX512_BF16), or a square of them (AMX); sums are float32.
//
//     nt   (M, K), (N, K) -> (M, N)        the layer
//     nn   (M, K), (K, N) -> (M, N)        slopes of its input
//     tn   (K, M), (K, N) -> (M, N)        slopes of its weight
//
// Both factors are packed: rows of the first in blocks, columns of the second in panels, as words
// that hold PAIR numbers which follow each other along K.
//
//     words[k / PAIR][row or column]           of squares.h, rows: words[k / 32][row][16]
//
// Sums over K are in one order whatever the rows beside and the threads.

#pragma once

#include "arithmetic.h"
#include "scratch.h"
#include "team.h"
#include "tiles.h"

#if defined(__AVX512BF16__)
constexpr int PAIR = 2;

inline Floats words(Floats even, Floats odd) {
  const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)even));
  const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)odd));
  return (Floats)_mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

inline Floats words_along(const float *x, int64_t count) {
  const Floats first = some(x, std::min<int64_t>(count, LANES));
  const Floats second = count > LANES ? some(x + LANES, count - LANES) : Floats{};
  return (Floats)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}

inline Floats added(Floats sum, Floats a, Floats b) {
  return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512)a, (__m512bh)(__m512)b);
}
#else
constexpr int PAIR = 1;

// To the nearest bfloat16, ties to even.
inline Floats rounded(Floats x) {
  const Words bits = (Words)x;
  return (Floats)((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
}

inline Floats words(Floats even, Floats) { return rounded(even); }
inline Floats words_along(const float *x, int64_t count) { return rounded(some(x, count)); }
inline Floats added(Floats sum, Floats a, Floats b) { return sum + a * b; }
#endif

// A word for all lanes; its bits are no number, so nothing may be computed with them.
inline Floats everywhere(const float *word) {
  uint32_t bits;
  std::memcpy(&bits, word, sizeof bits);
  return (Floats)(Words{} + bits);
}

// A factor: number (i, k) stands at x[i * line + k], or at x[k * line + i] where it is `turned`.
struct Factor {
  const float *x;
  int64_t line;
  bool turned;
};

// The words of `lanes` rows from x on at numbers k and k + 1 of a turned factor that ends at `end`.
inline Floats words_across(const Factor &from, int64_t first, int64_t lanes, int64_t k,
                           int64_t end) {
  const float *line = from.x + k * from.line + first;
  const Floats even = k < end ? some(line, lanes) : Floats{};
  return words(even, k + 1 < end ? some(line + from.line, lanes) : Floats{});
}

// `count` rows of a factor of k numbers from `first` on, as words[deep][room]; zeros fill it up.
template <int room>
void pack(const Factor &from, int64_t first, int64_t count, int64_t k, int64_t deep, float *to) {
  if (from.turned) {
    for (int64_t at = 0; at < deep; ++at, to += room)
      for (int i = 0; i < room; i += LANES)
        keep(to + i,
             words_across(from, first + i, std::clamp<int64_t>(count - i, 0, LANES), at * PAIR, k),
             std::min(LANES, room - i));
    return;
  }
  constexpr int64_t STRIDE = LANES * PAIR;
  for (int64_t at = 0; at < deep; at += LANES, to += LANES * room)
    for (int i = 0; i < room; i += LANES) {
      Floats rows[LANES] = {};
      for (int r = 0; r < LANES && i + r < std::min<int64_t>(room, count); ++r)
        rows[r] = words_along(from.x + (first + i + r) * from.line + at * PAIR,
                              std::min(STRIDE, k - at * PAIR));
      turn(rows);
      for (int64_t j = 0; j < std::min<int64_t>(LANES, deep - at); ++j)
        keep(to + j * room + i, rows[j], std::min(LANES, room - i));
    }
}

// Blocks of rows times panels, a word of a row at a time.
struct ByWords {
#if defined(__AVX512BF16__)
  static constexpr int ROWS = 12;
#else
  static constexpr int ROWS = BLOCK;
#endif
  static constexpr int64_t WHOLE = 1;  // words of K come in multiples of so many

  static void pack_rows(const Factor &from, int64_t first, int64_t count, int64_t k, int64_t deep,
                        float *to) {
    pack<ROWS>(from, first, count, k, deep, to);
  }

  // c (rows, width) = or += a block of ROWS rows times a panel, over `size` words.
  void operator()(int64_t rows, const float *a, const float *b, int64_t size, float *c,
                  int64_t c_line, int64_t width, bool add) const {
    Floats sum[ROWS][BANKS] = {};
    for (int64_t k = 0; k < size; ++k, a += ROWS, b += PANEL) {
      Floats column[BANKS];
      for (int j = 0; j < BANKS; ++j) column[j] = load(b + j * LANES);
      for (int i = 0; i < ROWS; ++i) {
        const Floats value = everywhere(a + i);
        for (int j = 0; j < BANKS; ++j) sum[i][j] = added(sum[i][j], value, column[j]);
      }
    }
    for (int64_t i = 0; i < rows; ++i, c += c_line)
      for (int j = 0; j < BANKS; ++j) {
        const int64_t lanes = std::clamp<int64_t>(width - j * LANES, 0, LANES);
        if (lanes == 0) break;
        keep(c + j * LANES, add ? some(c + j * LANES, lanes) + sum[i][j] : sum[i][j], lanes);
      }
  }
};

#if defined(__AMX_BF16__)
#include "squares.h"
#endif

constexpr int64_t DEEP = 256;   // words of K at a time: a panel of them stays near
constexpr int64_t PANELS = 4;   // of a thread at a time, at most
constexpr int64_t PIECES = 16;  // for the threads, at least, where there are so many panels

template <class Way, class Run>
void multiply_by(int64_t m, int64_t n, int64_t k, const Factor &left, const Factor &right, float *y,
                 const Run &run, bool upper) {
  constexpr int64_t ROWS = Way::ROWS, WHOLE = PAIR * Way::WHOLE;
  const int64_t blocks = (m + ROWS - 1) / ROWS, panels = (n + PANEL - 1) / PANEL;
  const int64_t deep = (k + WHOLE - 1) / WHOLE * Way::WHOLE;
  const Scratch packed(blocks * ROWS * deep);
  run(blocks, [&](int64_t block) {
    Way::pack_rows(left, block * ROWS, std::min<int64_t>(ROWS, m - block * ROWS), k, deep,
                   packed.get() + block * ROWS * deep);
  });
  const int64_t many = std::clamp<int64_t>(panels / PIECES, 1, PANELS);
  run((panels + many - 1) / many, [&](int64_t piece) {
    const int64_t first = piece * many, last = std::min(panels, first + many);
    const Scratch room((last - first) * deep * PANEL);
    for (int64_t p = first; p < last; ++p)
      pack<PANEL>(right, p * PANEL, std::min<int64_t>(PANEL, n - p * PANEL), k, deep,
                  room.get() + (p - first) * deep * PANEL);
    const Way block_of;
    for (int64_t from = 0; from < deep; from += DEEP)
      for (int64_t block = 0; block < blocks; ++block)
        for (int64_t p = first; p < last; ++p) {
          if (upper && (p + 1) * PANEL <= block * ROWS) continue;
          block_of(std::min<int64_t>(ROWS, m - block * ROWS),
                   packed.get() + (block * deep + from) * ROWS,
                   room.get() + ((p - first) * deep + from) * PANEL, std::min(DEEP, deep - from),
                   y + block * ROWS * n + p * PANEL, n, std::min<int64_t>(PANEL, n - p * PANEL),
                   from > 0);
        }
  });
}

// y (m, n) = left (m, k) times right (k, n), of which right's columns count as rows; `run(count,
// piece)` calls piece(i) for i in 0..count-1. Where `upper`, what stands wholly below the diagonal is
// left out.
template <class Run>
void multiply(int64_t m, int64_t n, int64_t k, const Factor &left, const Factor &right, float *y,
              const Run &run, bool upper = false) {
#if defined(__AMX_BF16__)
  if (BySquares::allowed())
    return multiply_by<BySquares>(m, n, k, left, right, y, run, upper);
#endif
  multiply_by<ByWords>(m, n, k, left, right, y, run, upper);
}
