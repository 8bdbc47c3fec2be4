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

// The device's state between calls: its threads and scratch memory. Not thread-safe.
std::unique_ptr<State, StateDeleter> createState();
// For tests: with given kernels, number of threads, and size from which gradients are written with streaming
// stores, instead of the best for this machine.
std::unique_ptr<State, StateDeleter> createState(const Kernels&, int threads, int64_t streamedBytes);

// The device over a state, which must outlive it.
Device device(State& state);

const char* instructionSet(const State& state);
int threadCount(const State& state);

}  // namespace groupgrad::cpu
