// The CUDA device: memory, one stream per environment, and operations over arrays on the device or the host.
#pragma once

#include <memory>
#include <string>

#include "operations.hpp"

namespace groupgrad::cuda {

// Whether there is a usable device. A failure leaves no sticky error.
struct Probe {
  bool available = false;
  std::string detail;  // what it is, or why there is none and what to do
};
Probe probe();

class State;
struct StateDeleter {
  void operator()(State*) const;
};
using StatePointer = std::unique_ptr<State, StateDeleter>;

// An environment's state: its stream, workspace and memory. Not thread-safe.
Status createState(StatePointer&);

// Device memory. All of these are ordered by the environment's stream: memory that is freed while an operation uses
// it is released after the operation.
Status allocate(State&, std::size_t bytes, void*& memory);
void release(State&, void* memory);
Status copyToDevice(State&, void* device, const void* host, std::size_t bytes);
Status copyToHost(State&, void* host, const void* device, std::size_t bytes);  // waits

// The numbers of a running operation. `slot` belongs to the state.
struct Results {
  LossMetrics loss;
  AdvantageMetrics advantages;
};
struct Pending {
  int32_t slot = -1;
};
// Waits for the operation.
Status fetch(State&, const Pending&, Results&);
// Releases the slot; its results are no longer needed.
void forget(State&, const Pending&);

// Waits for all work of this process on the current device, on any stream.
Status synchronizeDevice();

// Enqueues an operation. Arrays may be on the device or on the host; if results go to the host, the call waits for
// them, otherwise it returns at once. Rewards are on the device.
Status submitAdvantages(State&, const DeviceRewards&, Pending&);
Status submitPolicyLoss(State&, const PolicyRequest&, const DeviceRewards*, Pending&);
Status submitLogitsLoss(State&, const LogitsRequest&, const DeviceRewards*, Pending&);
// Its number is the loss's nonFinite.
Status submitLogitsBackward(State&, const LogitsBackwardRequest&, Pending&);

// The same operations as synchronous functions, over arrays on the device or on the host.
Device device(State&);

}  // namespace groupgrad::cuda
