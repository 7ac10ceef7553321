// Products of few rows with stored matrices, and their lines as float32.

#include "product.h"

namespace {

// The products with one matrix or several, side by side.
template <class Weight>
int stored_products(int tensors, void **data, int64_t **shape) {
  const int each = sizeof(Weight) == 1 ? 2 : 1;
  const int matrices = (tensors - 2) / each;
  std::vector<Matrix<Weight>> w;
  for (int m = 1; m <= matrices; ++m) {
    const float *scales = each == 2 ? (const float *)data[matrices + m] : nullptr;
    w.push_back({(const Weight *)data[m], scales, shape[m][0], shape[0][1]});
  }
  products((const float *)data[0], shape[0][0], w, (float *)data[tensors - 1],
           shape[tensors - 1][1]);
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
    return stored_products<Weight>(count, data, shape);                                                \
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
