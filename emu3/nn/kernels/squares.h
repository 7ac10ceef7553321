// Blocks of 32 rows times panels of 32 columns in the processor's square registers (AMX): a square
// holds 16 lines of 64 bytes, and one instruction adds the product of 16 x 32 by 32 x 16 numbers.
//
//     rows     words[k / 32][row][16], a square for the upper 16 rows and one for the lower
//     panel    words[k / 2][column], a square for the left 16 columns and one for the right
//
// Part of short_products.h. Intel's manual 1, chapter 18.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

class BySquares {
 public:
  static constexpr int ROWS = 32;
  static constexpr int64_t WHOLE = 16;

  // Whether the system lets this process use them: Linux wants to be asked once.
  static bool allowed() {
    constexpr long ASK = 0x1023, SQUARES = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool yes = syscall(SYS_arch_prctl, ASK, SQUARES) == 0;
    return yes;
  }

  static void pack_rows(const Factor &from, int64_t first, int64_t count, int64_t k, int64_t deep,
                        float *to) {
    for (int64_t at = 0; at < deep; at += LANES)
      for (int i = 0; i < ROWS; i += LANES, to += LANES * LANES) {
        const int64_t lanes = std::clamp<int64_t>(count - i, 0, LANES);
        Floats rows[LANES] = {};
        if (from.turned) {
          for (int j = 0; j < LANES; ++j)
            rows[j] = words_across(from, first + i, lanes, (at + j) * PAIR, k);
          turn(rows);
        } else {
          for (int64_t r = 0; r < lanes; ++r)
            rows[r] = words_along(from.x + (first + i + r) * from.line + at * PAIR,
                                  std::min<int64_t>(LANES * PAIR, k - at * PAIR));
        }
        for (int r = 0; r < LANES; ++r) store(to + r * LANES, rows[r]);
      }
  }

  // A thread's squares are laid out before its first block, and let go after its last.
  BySquares() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, none[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t lines[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } layout;
    _tile_loadconfig(&layout);
  }
  ~BySquares() { _tile_release(); }

  // As ByWords's; `size` is a multiple of WHOLE.
  void operator()(int64_t rows, const float *a, const float *b, int64_t size, float *c,
                  int64_t c_line, int64_t width, bool add) const {
    if (rows == ROWS && width == PANEL) return whole(a, b, size, c, c_line, add);
    alignas(64) float edge[ROWS * PANEL];
    if (add)
      for (int64_t i = 0; i < rows; ++i) std::memcpy(edge + i * PANEL, c + i * c_line, width * 4);
    whole(a, b, size, edge, PANEL, add);
    for (int64_t i = 0; i < rows; ++i) std::memcpy(c + i * c_line, edge + i * PANEL, width * 4);
  }

 private:
  static void whole(const float *a, const float *b, int64_t size, float *c, int64_t c_line,
                    bool add) {
    float *low = c + LANES * c_line;
    if (add) {
      _tile_loadd(0, c, c_line * 4);
      _tile_loadd(1, c + LANES, c_line * 4);
      _tile_loadd(2, low, c_line * 4);
      _tile_loadd(3, low + LANES, c_line * 4);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int64_t k = 0; k < size; k += WHOLE, a += WHOLE * ROWS, b += WHOLE * PANEL) {
      _tile_loadd(4, a, LANES * 4);
      _tile_loadd(5, a + LANES * LANES, LANES * 4);
      _tile_loadd(6, b, PANEL * 4);
      _tile_loadd(7, b + LANES, PANEL * 4);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_line * 4);
    _tile_stored(1, c + LANES, c_line * 4);
    _tile_stored(2, low, c_line * 4);
    _tile_stored(3, low + LANES, c_line * 4);
  }
};
