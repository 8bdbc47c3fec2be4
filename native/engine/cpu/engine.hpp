// The engine on the CPU.
#pragma once

#include <memory>
#include <span>

#include "../operations.hpp"

namespace groupgrad::engine::cpu {

class State;
struct StateDeleter {
  void operator()(State*) const;
};

// The engine's state between calls: its threads and scratch memory. Not thread-safe.
std::unique_ptr<State, StateDeleter> createState();

extern const Operations kOperations;

// The instruction sets that this processor supports, the best last.
std::span<const char* const> instructionSets();
const char* instructionSet(const State&);
// False if the processor does not support it.
bool setInstructionSet(State&, std::string_view name);

int threadCount(const State&);
// How many threads an operation may use, including the caller; at least 1.
void setThreadCount(State&, int threads);

}  // namespace groupgrad::engine::cpu
