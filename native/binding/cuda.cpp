#include "cuda.hpp"

#if !defined(GROUPGRAD_CUDA)

namespace groupgrad::binding {

Napi::Object cudaExports(Napi::Env env, const Device&) {
  Napi::Object exports = Napi::Object::New(env);
  exports.Set("built", false);
  return exports;
}

}  // namespace groupgrad::binding

#else

#include <memory>

#include "../cuda/device.hpp"
#include "arguments.hpp"
#include "functions.hpp"
#include "requests.hpp"

namespace groupgrad::binding {
namespace {

// The device of an environment; opened by the first call that needs it. Arrays and results keep it alive.
struct Cuda {
  explicit Cuda(const Device& cpu) : cpu(cpu) {}

  cuda::State& state(Napi::Env env) {
    if (!state_) check(env, cuda::createState(state_));
    return *state_;
  }

  const Device cpu;

 private:
  cuda::StatePointer state_;
};
using CudaPointer = std::shared_ptr<Cuda>;

// Memory, and a reference that keeps its device open.
struct OwnedMemory : DeviceMemory {
  OwnedMemory() = default;
  OwnedMemory(const OwnedMemory&) = delete;
  OwnedMemory& operator=(const OwnedMemory&) = delete;
  ~OwnedMemory() { free(); }
  void free() {
    if (data) cuda::release(*state, data);
    data = nullptr;
  }

  CudaPointer keepsOpen;
  cuda::State* state = nullptr;
};

OwnedMemory& memoryArgument(const Napi::CallbackInfo& info, size_t index) {
  DeviceMemory* memory = info.Length() > index ? deviceMemory(info[index]) : nullptr;
  if (!memory) throw Napi::TypeError::New(info.Env(), "memory: expected memory of this device");
  if (!memory->data) throw Napi::TypeError::New(info.Env(), "memory: expected memory that was not freed");
  return *static_cast<OwnedMemory*>(memory);
}

Napi::Value allocate(const Napi::CallbackInfo& info, const CudaPointer& owner) {
  const Napi::Env env = info.Env();
  const Napi::Object arguments = argument(info, 0, "options");
  constexpr napi_typedarray_type kTypes[] = {napi_float32_array, napi_float64_array, napi_int32_array, napi_uint8_array,
                                             napi_uint16_array};
  auto memory = std::make_unique<OwnedMemory>();
  memory->type = kTypes[getChoice(arguments, "type", {"float32", "float64", "int32", "uint8", "uint16"})];
  memory->length = getInteger(arguments, "length", 0, int64_t(1) << 50);
  memory->keepsOpen = owner;
  memory->owner = memory->state = &owner->state(env);
  const auto bytes = size_t(memory->length) * bytesPerElement(memory->type);
  check(env, cuda::allocate(*memory->state, bytes, memory->data));
  Napi::Object object = Napi::Object::New(env);
  tagDeviceMemory(object, memory.get(), [](napi_env, void* data, void*) { delete static_cast<OwnedMemory*>(data); });
  memory.release();
  return object;
}

// write(memory, array), read(memory, array): copy the whole array.
Napi::Value copy(const Napi::CallbackInfo& info, bool toDevice) {
  const Napi::Env env = info.Env();
  OwnedMemory& memory = memoryArgument(info, 0);
  void* host = typedArrayMemory(info.Length() > 1 ? info[1] : env.Undefined(), "array", memory.type, memory.length);
  const size_t bytes = size_t(memory.length) * bytesPerElement(memory.type);
  if (bytes == 0) return env.Undefined();
  check(env, toDevice ? cuda::copyToDevice(*memory.state, memory.data, host, bytes)
                      : cuda::copyToHost(*memory.state, host, memory.data, bytes));
  return env.Undefined();
}

Napi::Value free(const Napi::CallbackInfo& info) {
  DeviceMemory* memory = info.Length() > 0 ? deviceMemory(info[0]) : nullptr;
  if (!memory) throw Napi::TypeError::New(info.Env(), "memory: expected memory of this device");
  static_cast<OwnedMemory*>(memory)->free();
  return info.Env().Undefined();
}

// The numbers of an operation that may still be running. Their slot is released when they are fetched or no longer
// needed.
struct Operation {
  explicit Operation(CudaPointer cuda) : owner(std::move(cuda)) {}
  ~Operation() { forget(); }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // Waits for the operation the first time.
  const cuda::Results& fetch(Napi::Env env) {
    if (pending.slot >= 0) {
      check(env, cuda::fetch(*state, pending, results_));
      forget();
    }
    return results_;
  }

  CudaPointer owner;
  cuda::State* state = nullptr;
  cuda::Pending pending;

 private:
  void forget() {
    if (pending.slot >= 0) cuda::forget(*state, pending);
    pending.slot = -1;
  }

  cuda::Results results_;
};

// { read() }: returns `result` of the operation's numbers, once they are available.
template <class Result>
Napi::Object lazily(Napi::Env env, std::shared_ptr<Operation> operation, Result result) {
  Napi::Object object = Napi::Object::New(env);
  setMethod(object, "read", [operation, result](const Napi::CallbackInfo& info) -> Napi::Value {
    return result(info.Env(), operation->fetch(info.Env()));
  });
  return object;
}

std::shared_ptr<Operation> newOperation(Napi::Env env, const CudaPointer& cuda) {
  auto operation = std::make_shared<Operation>(cuda);
  operation->state = &cuda->state(env);
  return operation;
}

cuda::DeviceRewards deviceRewards(const AdvantageInputs& in) {
  cuda::DeviceRewards rewards;
  rewards.request = in.request;
  rewards.rewards32 = in.rewards32;
  rewards.rewards = in.rewards;
  rewards.groupSize = in.groupSize;
  rewards.anchor = in.anchor;
  return rewards;
}

// Rewards on the host are few, and their advantages are needed there: the CPU is faster.
Napi::Value computeAdvantages(const Napi::CallbackInfo& info, const CudaPointer& cuda) {
  const Napi::Env env = info.Env();
  const auto operation = newOperation(env, cuda);
  const AdvantageInputs in = readAdvantage(argument(info, 0, "plan"), argument(info, 1, "output"), operation->state);
  AdvantageMetrics onHost;
  if (in.onDevice) {
    check(env, cuda::submitAdvantages(*operation->state, deviceRewards(in), operation->pending));
  } else {
    check(env, cuda->cpu.advantages(cuda->cpu.state, in.request, onHost));
  }
  Napi::Object object = Napi::Object::New(env);
  setMethod(object, "read", [operation, in, onHost](const Napi::CallbackInfo& call) -> Napi::Value {
    return advantageResult(call.Env(), in.request, in.onDevice ? operation->fetch(call.Env()).advantages : onHost);
  });
  return object;
}

// submit(state, rewards, pending) puts the loss on the stream.
template <class Submit>
Napi::Value run(Napi::Env env, const CudaPointer& cuda, const std::shared_ptr<Operation>& operation,
                const LossInputs& inputs, const PolicyRequest& policy, bool entropy, const Submit& submit) {
  const bool rewardsOnDevice = inputs.fused && inputs.advantage.onDevice;
  AdvantageMetrics onHost;
  if (inputs.fused && !rewardsOnDevice) {
    check(env, cuda->cpu.advantages(cuda->cpu.state, inputs.advantage.request, onHost));
  }
  const cuda::DeviceRewards rewards = deviceRewards(inputs.advantage);
  check(env, submit(*operation->state, rewardsOnDevice ? &rewards : nullptr, operation->pending));
  const bool fused = inputs.fused;
  const AdvantageRequest advantage = inputs.advantage.request;
  return lazily(env, operation, [=](Napi::Env env, const cuda::Results& results) {
    return lossResult(env, policy, results.loss, fused ? &advantage : nullptr,
                      rewardsOnDevice ? results.advantages : onHost, entropy);
  });
}

Napi::Value policyLoss(const Napi::CallbackInfo& info, const CudaPointer& cuda) {
  const auto operation = newOperation(info.Env(), cuda);
  LossInputs inputs(operation->state);
  readPolicy(argument(info, 0, "plan"), inputs);
  return run(info.Env(), cuda, operation, inputs, inputs.policy, inputs.policy.entropies != nullptr,
             [&](cuda::State& state, const cuda::DeviceRewards* rewards, cuda::Pending& pending) {
               return cuda::submitPolicyLoss(state, inputs.policy, rewards, pending);
             });
}

Napi::Value logitsLoss(const Napi::CallbackInfo& info, const CudaPointer& cuda) {
  const auto operation = newOperation(info.Env(), cuda);
  LossInputs inputs(operation->state);
  const LogitsRequest request = readLogits(argument(info, 0, "plan"), inputs);
  return run(info.Env(), cuda, operation, inputs, request.policy, true,
             [&](cuda::State& state, const cuda::DeviceRewards* rewards, cuda::Pending& pending) {
               return cuda::submitLogitsLoss(state, request, rewards, pending);
             });
}

Napi::Value logitsBackward(const Napi::CallbackInfo& info, const CudaPointer& cuda) {
  const Napi::Env env = info.Env();
  const auto operation = newOperation(env, cuda);
  const LogitsBackwardRequest request = readLogitsBackward(argument(info, 0, "plan"), operation->state);
  check(env, cuda::submitLogitsBackward(*operation->state, request, operation->pending));
  return lazily(env, operation, [](Napi::Env environment, const cuda::Results& results) {
    return backwardResult(environment, results.loss.nonFinite);
  });
}

}  // namespace

Napi::Object cudaExports(Napi::Env env, const Device& cpu) {
  const auto cuda = std::make_shared<Cuda>(cpu);
  Napi::Object exports = Napi::Object::New(env);
  exports.Set("built", true);
  setMethod(exports, "probe", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const cuda::Probe found = cuda::probe();
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("available", found.available);
    result.Set("detail", found.detail);
    return result;
  });
  setMethod(exports, "allocate", [cuda](const Napi::CallbackInfo& info) { return allocate(info, cuda); });
  setMethod(exports, "write", [](const Napi::CallbackInfo& info) { return copy(info, true); });
  setMethod(exports, "read", [](const Napi::CallbackInfo& info) { return copy(info, false); });
  setMethod(exports, "free", [](const Napi::CallbackInfo& info) { return free(info); });
  setMethod(exports, "computeAdvantages",
            [cuda](const Napi::CallbackInfo& info) { return computeAdvantages(info, cuda); });
  setMethod(exports, "policyLoss", [cuda](const Napi::CallbackInfo& info) { return policyLoss(info, cuda); });
  setMethod(exports, "logitsLoss", [cuda](const Napi::CallbackInfo& info) { return logitsLoss(info, cuda); });
  setMethod(exports, "logitsBackward", [cuda](const Napi::CallbackInfo& info) { return logitsBackward(info, cuda); });
  return exports;
}

}  // namespace groupgrad::binding

#endif
