// Keys and values of prompts into the caches of a step, zeros behind them.

#include "arithmetic.h"
#include "team.h"

// keys and values (R, G, T, D), the caches for them (R * G * S * D numbers), which are written ->
// (1,) of no meaning
extern "C" int fill_cache(int, void **data, int *axes, int64_t **shape, const char **, void *,
                          void *) {
  const int64_t lines = shape[0][0] * shape[0][1], known = shape[0][2] * shape[0][3];
  const int64_t room = product_of(shape[2], axes[2]) / lines;
  Team::get().run(2 * lines, [&](int64_t piece) {
    const int64_t which = piece / lines, line = piece % lines;
    float *to = (float *)data[2 + which] + line * room;
    std::copy_n((const float *)data[which] + line * known, known, to);
    std::fill(to + known, to + room, 0.0f);
  });
  *(float *)data[4] = 0.0f;
  return 0;
}
