// The CUDA device: memory, one stream an environment, and operations over arrays that lie on the device or on the host.
#pragma once

#include <memory>
#include <string>

#include "operations.hpp"

namespace groupgrad::cuda {

// Whether there is a device to work with. A failure leaves no error behind.
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

// What an environment keeps: its stream, workspace and memory. Not for use by two threads at once.
Status createState(StatePointer&);

// Device memory. All of these are ordered by the environment's stream: memory that is freed while an operation uses it
// is given back after it.
Status allocate(State&, std::size_t bytes, void*& memory);
void release(State&, void* memory);
Status copyToDevice(State&, void* device, const void* host, std::size_t bytes);
Status copyToHost(State&, void* host, const void* device, std::size_t bytes);  // waits

// The numbers of an operation that is on its way. `slot` is one of the state's.
struct Results {
  LossMetrics loss;
  AdvantageMetrics advantages;
};
struct Pending {
  int32_t slot = -1;
};
// Waits for the operation.
Status fetch(State&, const Pending&, Results&);
// Gives the slot back; its results are not needed any more.
void forget(State&, const Pending&);

// Waits for all that this process has given the current device, on any stream.
Status synchronizeDevice();

// Puts an operation on the stream. Arrays may lie on the device or on the host; where results go to the host, the call
// waits for them, else it returns at once. Rewards lie on the device.
Status submitAdvantages(State&, const DeviceRewards&, Pending&);
Status submitPolicyLoss(State&, const PolicyRequest&, const DeviceRewards*, Pending&);
Status submitLogitsLoss(State&, const LogitsRequest&, const DeviceRewards*, Pending&);
// Its number is the loss's nonFinite.
Status submitLogitsBackward(State&, const LogitsBackwardRequest&, Pending&);

// The same operations as functions that wait, over arrays on the device or on the host.
Device device(State&);

}  // namespace groupgrad::cuda
