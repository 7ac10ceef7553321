// Dropout whose chance is drawn from what it drops, see drop.h.

#include "drop.h"
#include "team.h"

namespace {

constexpr int64_t PIECE = 8192;

void dropped(const float *x, int64_t size, const Drop &drop, float *out) {
  Team::get().run((size + PIECE - 1) / PIECE, [&](int64_t piece) {
    const int64_t end = std::min(size, (piece + 1) * PIECE);
    for (int64_t i = piece * PIECE; i < end; i += LANES) {
      const int64_t count = std::min<int64_t>(LANES, end - i);
      keep(out + i, some(x + i, count) * drop.factors(i), count);
    }
  });
}

}  // namespace

// x, settings (threshold, seed) -> like x, and the seed that was used (1).
extern "C" int dropout(int, void **data, int *axes, int64_t **shape, const char **, void *,
                       void *) {
  const float *x = (const float *)data[0];
  const uint32_t *settings = (const uint32_t *)data[1];
  uint32_t *seed = (uint32_t *)data[3];
  const int64_t size = product_of(shape[0], axes[0]);
  *seed = seed_of(x, size, settings[1]);
  dropped(x, size, Drop(settings[0], *seed), (float *)data[2]);
  return 0;
}

// slope of out, settings, the seed that was used -> slope of x.
extern "C" int dropout_grad(int, void **data, int *axes, int64_t **shape, const char **, void *,
                            void *) {
  const Drop drop(*(const uint32_t *)data[1], *(const uint32_t *)data[2]);
  dropped((const float *)data[0], product_of(shape[0], axes[0]), drop, (float *)data[3]);
  return 0;
}
