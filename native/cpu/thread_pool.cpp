#include "thread_pool.hpp"

#include <algorithm>
#include <system_error>

#if defined(__linux__)
#include <sched.h>
#endif

namespace groupgrad::cpu {

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::start(int workers) {
  try {
    while (int(workers_.size()) < workers) {
      const int index = int(workers_.size());
      workers_.emplace_back([this, index] { work(index); });
    }
  } catch (const std::system_error&) {
    // If no more threads can be created, those that started and the caller do the work.
  }
}

void ThreadPool::drain() {
  for (int64_t unit = next_.fetch_add(1); unit < units_; unit = next_.fetch_add(1)) (*body_)(unit);
}

void ThreadPool::work(int index) {
  std::unique_lock lock(mutex_);
  uint64_t seen = 0;
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || (generation_ != seen && index < wanted_); });
    if (stopping_) return;
    seen = generation_;
    lock.unlock();
    drain();
    lock.lock();
    if (--running_ == 0) done_.notify_one();
  }
}

void ThreadPool::forEach(int64_t units, int threads, const std::function<void(int64_t)>& body) {
  const int helpers = int(std::min<int64_t>(std::min(threads, threads_), units)) - 1;
  if (helpers > 0) start(helpers);
  {
    const std::lock_guard lock(mutex_);
    body_ = &body;
    units_ = units;
    next_ = 0;
    wanted_ = std::max(0, std::min(helpers, int(workers_.size())));
    running_ = wanted_;
    ++generation_;
  }
  if (wanted_ > 0) wake_.notify_all();
  drain();
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return running_ == 0; });
}

int availableProcessors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, int(std::thread::hardware_concurrency()));
}

}  // namespace groupgrad::cpu
