// A whole decoder layer of a decoding step with stored weights: between its products nothing else
// stands, and no operator is started.

#include "product.h"
#include "rms_norm.h"
#include "step_attention.h"

namespace {

constexpr int FIRST = 10;  // inputs before the weights

template <class Weight, class Cache>
int layer(void **data, int64_t **shape) {
  constexpr int MATRICES = 7;  // q, k, v, o, gate, up, down
  std::vector<Matrix<Weight>> w;
  for (int m = FIRST; m < FIRST + MATRICES; ++m) {
    const float *scales = sizeof(Weight) == 1 ? (const float *)data[m + MATRICES] : nullptr;
    w.push_back({(const Weight *)data[m], scales, shape[m][0], shape[m][1]});
  }
  float *out = (float *)data[FIRST + (sizeof(Weight) == 1 ? 2 : 1) * MATRICES];
  const int64_t count = shape[0][0], wide = shape[0][1], inner = w[4].size;
  StepSizes n;
  n.rows = shape[3][0], n.places = shape[3][2], n.slots = shape[3][3], n.width = shape[5][1];
  n.heads = w[0].size / n.width, n.groups = w[1].size / n.width;
  const float *x = (const float *)data[0], eps = *(const float *)data[9];

  Scratch scratch(count * (2 * wide + n.line() + n.heads * n.width + 3 * inner));
  float *normed = scratch.get(), *heads = normed + count * wide;
  float *seen = heads + count * n.line(), *middle = seen + count * n.heads * n.width;
  float *halves = middle + count * wide, *mixed = halves + count * 2 * inner;

  normalise(x, (const float *)data[7], eps, count, wide, normed);
  products<Weight>(normed, count, {w[0], w[1], w[2]}, heads, n.line());
  const StepInputs<Cache> in{heads, (const float *)data[1], (const float *)data[2],
                             (const float *)data[3], (const int32_t *)data[4], (Cache *)data[5],
                             (Cache *)data[6]};
  step_attention_of(n, in, seen);
  products<Weight>(seen, count, {w[3]}, middle, wide, x);
  normalise(middle, (const float *)data[8], eps, count, wide, normed);
  products<Weight>(normed, count, {w[4], w[5]}, halves, 2 * inner);
  Team::get().run(count, [&](int64_t r) {
    const float *gate = halves + r * 2 * inner, *up = gate + inner;
    float *to = mixed + r * inner;
    int64_t i = 0;
    for (; i + LANES <= inner; i += LANES) {
      const Floats g = load(gate + i);
      store(to + i, g * sigmoid(g) * load(up + i));
    }
    const Floats g = load_first(gate + i, inner - i);
    store_first(to + i, g * sigmoid(g) * load_first(up + i, inner - i), inner - i);
  });
  products<Weight>(mixed, count, {w[6]}, out, wide, middle);
  return 0;
}

}  // namespace

// x (R*W, C), cos, sin, bias, places, keys, values as in StepInputs, weights (C) of the two norms,
// eps (1), the matrices, of 8 bits their scales -> (R*W, C).
#define EMU3_LAYER(form, Weight, cache, Cache)                                                \
  extern "C" int step_layer_##form##_##cache(int, void **data, int *, int64_t **shape,        \
                                             const char **, void *, void *) {                 \
    return layer<Weight, Cache>(data, shape);                                                 \
  }

EMU3_LAYER(bfloat16, uint16_t, float32, float)
EMU3_LAYER(bfloat16, uint16_t, bfloat16, uint16_t)
EMU3_LAYER(int8, int8_t, float32, float)
EMU3_LAYER(int8, int8_t, bfloat16, uint16_t)
