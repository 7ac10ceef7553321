// Maps enlarged by nearest neighbour, and their slopes: sums of what each pixel became.
#pragma once

#include <algorithm>
#include <cstdint>

// from (rows, width) -> to (rows * factor, width * factor).
inline void enlarge(const float *from, int64_t rows, int64_t width, int64_t factor, float *to) {
  const int64_t line = width * factor;
  for (int64_t row = 0; row < rows; ++row, from += width) {
    float *first = to;
    if (factor == 2) {
      for (int64_t i = 0; i < width; ++i) first[2 * i] = first[2 * i + 1] = from[i];
    } else {
      for (int64_t i = 0; i < width; ++i) std::fill_n(first + i * factor, factor, from[i]);
    }
    for (int64_t copy = 1; copy < factor; ++copy) std::copy_n(first, line, first + copy * line);
    to += factor * line;
  }
}

// from (rows * factor, width * factor), which is used up -> to (rows, width).
inline void shrink(float *from, int64_t rows, int64_t width, int64_t factor, float *to) {
  const int64_t line = width * factor;
  for (int64_t row = 0; row < rows; ++row, from += factor * line, to += width) {
    for (int64_t copy = 1; copy < factor; ++copy)
      for (int64_t i = 0; i < line; ++i) from[i] += from[copy * line + i];
    if (factor == 2) {
      for (int64_t i = 0; i < width; ++i) to[i] = from[2 * i] + from[2 * i + 1];
    } else {
      for (int64_t i = 0; i < width; ++i) {
        to[i] = from[i * factor];
        for (int64_t k = 1; k < factor; ++k) to[i] += from[i * factor + k];
      }
    }
  }
}
