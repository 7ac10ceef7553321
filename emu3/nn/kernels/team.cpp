#include "team.h"

extern "C" void set_threads(int threads) { Team::get().resize(threads); }
