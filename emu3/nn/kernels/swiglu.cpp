// silu(gate) * up, number by number, and its slopes.

#include "arithmetic.h"
#include "team.h"

namespace {

constexpr int64_t PIECE = 8192;

// each(from, count) for stretches of 0..size-1, `count` = LANES but at the end.
template <class Each>
void stretches(int64_t size, const Each &each) {
  Team::get().run((size + PIECE - 1) / PIECE, [&](int64_t piece) {
    const int64_t end = std::min(size, (piece + 1) * PIECE);
    for (int64_t i = piece * PIECE; i < end; i += LANES) each(i, std::min<int64_t>(LANES, end - i));
  });
}

}  // namespace

// gate, up -> out, all of one shape.
extern "C" int swiglu(int, void **data, int *axes, int64_t **shape, const char **, void *, void *) {
  const float *gate = (const float *)data[0], *up = (const float *)data[1];
  float *out = (float *)data[2];
  stretches(product_of(shape[0], axes[0]), [=](int64_t i, int64_t count) {
    const Floats g = some(gate + i, count);
    keep(out + i, g * sigmoid(g) * some(up + i, count), count);
  });
  return 0;
}

// gate, up, slope of out -> slopes of gate and up.
extern "C" int swiglu_grad(int, void **data, int *axes, int64_t **shape, const char **, void *,
                           void *) {
  const float *gate = (const float *)data[0], *up = (const float *)data[1];
  const float *slope = (const float *)data[2];
  float *by_gate = (float *)data[3], *by_up = (float *)data[4];
  stretches(product_of(shape[0], axes[0]), [=](int64_t i, int64_t count) {
    const Floats g = some(gate + i, count), d = some(slope + i, count), s = sigmoid(g);
    keep(by_up + i, d * g * s, count);
    keep(by_gate + i, d * some(up + i, count) * s * (1.0f + g * (1.0f - s)), count);
  });
  return 0;
}
