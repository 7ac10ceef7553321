// A team of threads that splits a kernel's work with the thread that calls it.
//
// Workers stay awake for a moment after each piece of work, since a decoding step calls kernels
// every few microseconds, and then sleep, since MindSpore's own threads want the cores. Nobody
// waits for a worker that wakes late: pieces are handed out one by one, to whoever is there.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

// Tells the processor that a thread only waits.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Team {
 public:
  static Team &get() {
    static Team *team = new Team;  // never destroyed: workers outlive main()
    return *team;
  }

  // From now on `threads` threads work, the caller's among them.
  void resize(int threads) {
    std::lock_guard<std::mutex> turn(busy_);
    for (wanted_ = threads - 1; started_ < wanted_; ++started_)
      std::thread(&Team::wait_for_work, this, started_).detach();
  }

  // Calls piece(i) once for each i in 0..count-1, from several threads.
  template <class Piece>
  void run(int64_t count, const Piece &piece) {
    std::unique_lock<std::mutex> turn(busy_, std::try_to_lock);
    if (!turn.owns_lock() || wanted_ < 1 || count < 2) {
      for (int64_t i = 0; i < count; ++i) piece(i);
      return;
    }
    call_ = [](const void *p, int64_t i) { (*static_cast<const Piece *>(p))(i); };
    piece_ = &piece;
    count_ = count;
    next_ = 0;
    const uint32_t round = round_ + 1;
    open_ = round;
    round_ = round;
    if (asleep_ > 0) {
      std::lock_guard<std::mutex> lock(sleep_);
      wake_.notify_all();
    }
    work();
    open_ = 0;
    for (int tries = 0; active_ != 0; ++tries)
      tries < 10000 ? relax() : std::this_thread::yield();
  }

 private:
  static constexpr int AWAKE = 4000;  // pauses, some 50 to 150 microseconds

  void work() {
    for (int64_t i; (i = next_.fetch_add(1)) < count_;) call_(piece_, i);
  }

  void wait_for_work(int number) {
    for (uint32_t seen = 0;;) {
      for (int tries = 0; round_ == seen && tries < AWAKE; ++tries) relax();
      if (round_ == seen) {
        std::unique_lock<std::mutex> lock(sleep_);
        ++asleep_;
        wake_.wait(lock, [&] { return round_ != seen; });
        --asleep_;
      }
      seen = round_;
      // Joining before looking: the caller closes a round first and counts the joined then.
      ++active_;
      if (open_ == seen && number < wanted_) work();
      --active_;
    }
  }

  std::mutex busy_, sleep_;
  std::condition_variable wake_;
  std::atomic<uint32_t> round_{0}, open_{0};
  std::atomic<int> active_{0}, asleep_{0}, wanted_{0};
  std::atomic<int64_t> next_{0}, count_{0};
  void (*call_)(const void *, int64_t) = nullptr;
  const void *piece_ = nullptr;
  int started_ = 0;
};

// Ways to call piece(i) for i in 0..count-1: by the team, or by the thread that calls.
struct Together {
  template <class Piece>
  void operator()(int64_t count, const Piece &piece) const {
    Team::get().run(count, piece);
  }
};

struct Alone {
  template <class Piece>
  void operator()(int64_t count, const Piece &piece) const {
    for (int64_t i = 0; i < count; ++i) piece(i);
  }
};
