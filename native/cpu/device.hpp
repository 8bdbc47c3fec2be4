// The CPU device.
#pragma once

#include <memory>

#include "../core/device.hpp"

namespace groupgrad::cpu {

class State;
struct Kernels;
struct StateDeleter {
  void operator()(State*) const;
};

// What the device keeps between calls: its threads and scratch memory. Not for use by two threads at once.
std::unique_ptr<State, StateDeleter> createState();
// For tests: with kernels, a number of threads, and a size from which gradients are written past the caches, other than
// the best for this machine.
std::unique_ptr<State, StateDeleter> createState(const Kernels&, int threads, int64_t streamedBytes);

// The device over a state, which must outlive it.
Device device(State& state);

const char* instructionSet(const State& state);
int threadCount(const State& state);

}  // namespace groupgrad::cpu
