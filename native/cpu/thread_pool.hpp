// Threads that wait for loops. Started by the first loop that needs them; joined on destruction.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace groupgrad::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(int threads) : threads_(threads) {}
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Threads that a loop can use, the caller included.
  int size() const { return threads_; }

  // Calls body(unit) once for each unit in [0, units), on at most `threads` threads, including the caller. Which
  // thread runs which unit is unspecified. The body must not throw.
  void forEach(int64_t units, int threads, const std::function<void(int64_t)>& body);

 private:
  void start(int workers);
  void work(int index);
  void drain();

  const int threads_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  uint64_t generation_ = 0;
  int wanted_ = 0;   // workers that take part in this generation
  int running_ = 0;  // of those, not yet finished
  bool stopping_ = false;
  const std::function<void(int64_t)>* body_ = nullptr;
  int64_t units_ = 0;
  std::atomic<int64_t> next_{0};
};

// Processors that this process may run on.
int availableProcessors();

}  // namespace groupgrad::cpu
