// The engine on the processor.
#pragma once

#include <memory>
#include <span>

#include "../operations.hpp"

namespace groupgrad::engine::cpu {

class State;
struct StateDeleter {
  void operator()(State*) const;
};

// What the engine keeps between calls: its threads and scratch memory. Not for use by two threads at once.
std::unique_ptr<State, StateDeleter> createState();

extern const Operations kOperations;

// The instruction sets that this processor has, the best last.
std::span<const char* const> instructionSets();
const char* instructionSet(const State&);
// False where the processor has no such one.
bool setInstructionSet(State&, std::string_view name);

int threadCount(const State&);
// How many threads an operation may use, the caller included; at least 1.
void setThreadCount(State&, int threads);

}  // namespace groupgrad::engine::cpu
