// What a decoding step does between its products, as an operator of its own.

#include "step_attention.h"

namespace {

template <class Cache>
int stepped(void **data, int64_t **shape) {
  StepSizes n;
  n.rows = shape[3][0], n.places = shape[3][2], n.slots = shape[3][3], n.width = shape[5][1];
  n.groups = shape[5][0] / n.rows / n.slots;
  n.heads = shape[0][1] / n.width - 2 * n.groups;
  const StepInputs<Cache> in{(const float *)data[0], (const float *)data[1],
                             (const float *)data[2], (const float *)data[3],
                             (const int32_t *)data[4], (Cache *)data[5], (Cache *)data[6]};
  step_attention_of(n, in, (float *)data[7]);
  return 0;
}

}  // namespace

// x, cos, sin, bias, places, keys, values as in StepInputs -> (R*W, H*D).
extern "C" int step_attention_float32(int, void **data, int *, int64_t **shape, const char **,
                                      void *, void *) {
  return stepped<float>(data, shape);
}

extern "C" int step_attention_bfloat16(int, void **data, int *, int64_t **shape, const char **,
                                       void *, void *) {
  return stepped<uint16_t>(data, shape);
}
