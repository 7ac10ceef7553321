// The products of short_products.h as operators.

#include "short_products.h"

extern "C" int short_nt(int, void **data, int *, int64_t **shape, const char **, void *, void *) {
  const int64_t m = shape[0][0], k = shape[0][1], n = shape[1][0];
  multiply(m, n, k, {(const float *)data[0], k, false}, {(const float *)data[1], k, false},
           (float *)data[2], Together());
  return 0;
}

extern "C" int short_nn(int, void **data, int *, int64_t **shape, const char **, void *, void *) {
  const int64_t m = shape[0][0], k = shape[0][1], n = shape[1][1];
  multiply(m, n, k, {(const float *)data[0], k, false}, {(const float *)data[1], n, true},
           (float *)data[2], Together());
  return 0;
}

extern "C" int short_tn(int, void **data, int *, int64_t **shape, const char **, void *, void *) {
  const int64_t m = shape[0][1], k = shape[0][0], n = shape[1][1];
  multiply(m, n, k, {(const float *)data[0], m, true}, {(const float *)data[1], n, true},
           (float *)data[2], Together());
  return 0;
}
