#include "device.hpp"

#include <cuda_runtime.h>

#include <cstring>
#include <new>
#include <vector>

namespace groupgrad::cuda {

namespace {

// A result's path to the host: a slot in pinned memory, so that the copy is asynchronous, and an event after it.
struct Slot {
  Results* host = nullptr;
  cudaEvent_t copied = nullptr;
};
// Pinning memory takes longer than an operation, and a whole page, so it is done for this many results at once.
constexpr std::size_t kResultsAtOnce = 64;

Status failure(cudaError_t error, const char* what) {
  cudaGetLastError();  // a failed call leaves its error behind for a later one to find
  return Status::make(StatusCode::failed, "%s failed: %s (%s)", what, cudaGetErrorName(error),
                      cudaGetErrorString(error));
}

std::string versionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

// Makes a device current for a scope: other code on this thread may have selected another, and finalizers run at
// any time.
class CurrentDevice {
 public:
  explicit CurrentDevice(int index) {
    if (cudaGetDevice(&before_) != cudaSuccess || before_ == index) before_ = -1;
    if (before_ >= 0) cudaSetDevice(index);
  }
  ~CurrentDevice() {
    if (before_ >= 0) cudaSetDevice(before_);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = -1;
};

class State {
 public:
  ~State() {
    const CurrentDevice current(index);
    if (stream) cudaStreamSynchronize(stream);
    for (const Slot& slot : slots) cudaEventDestroy(slot.copied);
    for (Results* slab : slabs) cudaFreeHost(slab);
    if (results) free(results);
    if (workspace) free(workspace);
    if (stream) {
      cudaStreamSynchronize(stream);
      cudaStreamDestroy(stream);
    }
    if (pool) cudaMemPoolDestroy(pool);
    cudaGetLastError();
  }

  Status open() {
    cudaError_t error = cudaGetDevice(&index);
    if (error == cudaSuccess) error = readTraits(index, traits);
    int pools = 0;
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, index);
    if (error == cudaSuccess && pools != 0) error = createPool();
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (error != cudaSuccess) return failure(error, "opening the CUDA device");
    void* memory = nullptr;
    const Status status = allocate(sizeof(Results), memory);
    results = static_cast<Results*>(memory);
    return status;
  }

  // Never null, so that an array without elements is an array too.
  Status allocate(std::size_t bytes, void*& memory) {
    const std::size_t size = bytes > 0 ? bytes : 1;
    cudaError_t error = take(size, memory);
    if (error == cudaErrorMemoryAllocation && pool) {
      // The pool's memory may be fragmented.
      cudaGetLastError();
      cudaStreamSynchronize(stream);
      cudaMemPoolTrimTo(pool, 0);
      error = take(size, memory);
    }
    if (error == cudaSuccess) return {};
    cudaGetLastError();
    memory = nullptr;
    std::size_t left = 0, total = 0;
    if (cudaMemGetInfo(&left, &total) != cudaSuccess) cudaGetLastError();
    // A driver may reject impossibly large sizes as an invalid value.
    if (error != cudaErrorMemoryAllocation && (total == 0 || size <= total))
      return failure(error, "allocating GPU memory");
    constexpr double kGiB = 1024.0 * 1024 * 1024;
    return Status::make(StatusCode::outOfMemory, "not enough GPU memory: %.3g GiB wanted, %.3g GiB of %.3g GiB free",
                        double(bytes) / kGiB, double(left) / kGiB, double(total) / kGiB);
  }

  void free(void* memory) {
    if (!memory) return;
    // Without pools, freeing waits for the device: nothing uses the memory any more.
    if ((pool ? cudaFreeAsync(memory, stream) : cudaFree(memory)) != cudaSuccess) cudaGetLastError();
  }

  // At least this size, ready for use: its first bytes are 0 between operations.
  Status needWorkspace(std::size_t bytes) {
    if (bytes <= workspaceBytes) return {};
    free(workspace);
    workspace = nullptr;
    workspaceBytes = 0;
    if (const Status status = allocate(bytes, workspace); !status.ok()) return status;
    const cudaError_t error = cudaMemsetAsync(workspace, 0, bytes, stream);
    if (error != cudaSuccess) return failure(error, "clearing the workspace");
    workspaceBytes = bytes;
    return {};
  }

  // After an operation that was only partly launched.
  void dropWorkspace() {
    free(workspace);
    workspace = nullptr;
    workspaceBytes = 0;
  }

  Status takeSlot(int32_t& slot) {
    if (freeSlots.empty()) {
      if (const cudaError_t error = addSlot(); error != cudaSuccess) return failure(error, "allocating pinned memory");
    }
    slot = freeSlots.back();
    freeSlots.pop_back();
    return {};
  }

  int index = 0;
  DeviceTraits traits;
  cudaMemPool_t pool = nullptr;  // null: the device has none
  cudaStream_t stream = nullptr;
  Results* results = nullptr;  // on the device
  void* workspace = nullptr;
  std::size_t workspaceBytes = 0;
  std::vector<Slot> slots;
  std::vector<int32_t> freeSlots;  // has room for all, so that giving one back cannot fail
  std::vector<Results*> slabs;     // of kResultsAtOnce, one after the other in use

 private:
  cudaError_t addSlot() {
    const std::size_t count = slots.size() + 1;
    slots.reserve(count > slots.capacity() ? 2 * count : count);
    freeSlots.reserve(slots.capacity());
    slabs.reserve(slots.capacity() / kResultsAtOnce + 1);
    if (slots.size() == slabs.size() * kResultsAtOnce) {
      void* slab = nullptr;
      const cudaError_t error = cudaHostAlloc(&slab, kResultsAtOnce * sizeof(Results), cudaHostAllocDefault);
      if (error != cudaSuccess) return error;
      slabs.push_back(static_cast<Results*>(slab));
    }
    Slot slot{slabs.back() + slots.size() % kResultsAtOnce};
    const cudaError_t error = cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming);
    if (error != cudaSuccess) return error;
    freeSlots.push_back(int32_t(slots.size()));
    slots.push_back(slot);
    return cudaSuccess;
  }
  // A separate pool that keeps its memory: the default one releases memory whenever the stream is synchronised, and
  // mapping it again takes as long as a kernel.
  cudaError_t createPool() {
    cudaMemPoolProps properties{};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = index;
    cudaError_t error = cudaMemPoolCreate(&pool, &properties);
    uint64_t all = UINT64_MAX;
    if (error == cudaSuccess) error = cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all);
    return error;
  }
  cudaError_t take(std::size_t bytes, void*& memory) {
    return pool ? cudaMallocFromPoolAsync(&memory, bytes, pool, stream) : cudaMalloc(&memory, bytes);
  }
};

void StateDeleter::operator()(State* state) const { delete state; }

Probe probe() {
  int driver = 0, runtime = 0, count = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (driver == 0) return {false, "there is no NVIDIA driver on this machine; install one (nvidia-smi shows it)"};
  if (error == cudaErrorInsufficientDriver) {
    return {false, "the NVIDIA driver is too old: it supports CUDA " + versionText(driver) +
                       ", this build needs CUDA " + versionText(runtime) +
                       "; install a newer driver, or rebuild with an older CUDA toolkit"};
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return {false, "the NVIDIA driver sees no GPU (does CUDA_VISIBLE_DEVICES hide it?)"};
  }
  if (error != cudaSuccess) {
    return {false, std::string("the CUDA runtime does not start: ") + cudaGetErrorName(error) + " (" +
                       cudaGetErrorString(error) + ")"};
  }
  int device = 0, major = 0, minor = 0;
  cudaDeviceProp properties;
  cudaError_t asked = cudaGetDevice(&device);
  if (asked == cudaSuccess) asked = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (asked == cudaSuccess) asked = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (asked == cudaSuccess) asked = cudaGetDeviceProperties(&properties, device);
  cudaGetLastError();
  if (asked != cudaSuccess) return {false, std::string("the GPU does not answer: ") + cudaGetErrorString(asked)};
  const std::string name =
      std::string(properties.name) + ", compute capability " + std::to_string(major) + "." + std::to_string(minor);
  if (major * 10 + minor < 75) return {false, name + ": at least compute capability 7.5 is needed"};
  return {true, name + ", driver for CUDA " + versionText(driver) + ", runtime " + versionText(runtime)};
}

cudaError_t readTraits(int device, DeviceTraits& traits) {
  int major = 0, clusters = 0, compiled = 0;
  traits.device = device;
  cudaError_t error = cudaDeviceGetAttribute(&traits.multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&traits.sharedMemoryPerBlock, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  }
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, device);
  if (error == cudaSuccess) error = compiledArchitecture(compiled);
  traits.overlaps = major >= 9 && compiled >= 90;
  traits.clusters = traits.overlaps && clusters != 0;
  return error;
}

Status synchronizeDevice() {
  const cudaError_t error = cudaDeviceSynchronize();
  return error == cudaSuccess ? Status{} : failure(error, "waiting for the GPU");
}

Status createState(StatePointer& out) {
  StatePointer state(new (std::nothrow) State());
  if (!state) return Status::make(StatusCode::outOfMemory, "not enough memory for the CUDA device's state");
  const Status status = state->open();
  if (status.ok()) out = std::move(state);
  return status;
}

Status allocate(State& state, std::size_t bytes, void*& memory) {
  const CurrentDevice current(state.index);
  return state.allocate(bytes, memory);
}

void release(State& state, void* memory) {
  const CurrentDevice current(state.index);
  state.free(memory);
}

Status copyToDevice(State& state, void* device, const void* host, std::size_t bytes) {
  const CurrentDevice current(state.index);
  const cudaError_t error = cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, state.stream);
  return error == cudaSuccess ? Status{} : failure(error, "copying to the GPU");
}

Status copyToHost(State& state, void* host, const void* device, std::size_t bytes) {
  const CurrentDevice current(state.index);
  cudaError_t error = cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, state.stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(state.stream);
  return error == cudaSuccess ? Status{} : failure(error, "copying from the GPU");
}

Status fetch(State& state, const Pending& pending, Results& results) {
  const Slot& slot = state.slots[std::size_t(pending.slot)];
  const cudaError_t error = cudaEventSynchronize(slot.copied);
  if (error != cudaSuccess) return failure(error, "waiting for the GPU");
  results = *slot.host;
  return {};
}

void forget(State& state, const Pending& pending) {
  if (pending.slot >= 0) state.freeSlots.push_back(pending.slot);
}

namespace {

// The arrays of one operation: those on the host get device memory for its duration.
class Staging {
 public:
  explicit Staging(State& state) : state_(state) {}
  ~Staging() {
    for (const Copy& copy : copies_) state_.free(copy.device);
  }

  template <class T>
  void input(T*& pointer, int64_t count) {
    place(pointer, count, true, false);
  }
  template <class T>
  void output(T*& pointer, int64_t count) {
    place(pointer, count, false, true);
  }
  template <class T>
  void both(T*& pointer, int64_t count) {
    place(pointer, count, true, true);
  }
  const Status& status() const { return status_; }

  // Copies results back to the host and waits, if any are there.
  Status finish() {
    bool wait = false;
    for (const Copy& copy : copies_) {
      if (!copy.out) continue;
      wait = true;
      const cudaError_t error =
          cudaMemcpyAsync(copy.host, copy.device, copy.bytes, cudaMemcpyDeviceToHost, state_.stream);
      if (error != cudaSuccess) return failure(error, "copying from the GPU");
    }
    const cudaError_t error = wait ? cudaStreamSynchronize(state_.stream) : cudaSuccess;
    return error == cudaSuccess ? Status{} : failure(error, "waiting for the GPU");
  }

 private:
  struct Copy {
    void* host;
    void* device;
    std::size_t bytes;
    bool out;
  };

  template <class T>
  void place(T*& pointer, int64_t count, bool in, bool out) {
    if (!pointer || !status_.ok()) return;
    cudaPointerAttributes attributes{};
    cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
    if (error != cudaSuccess) {
      status_ = failure(error, "looking up an array");
      return;
    }
    if (attributes.type == cudaMemoryTypeManaged) return;
    if (attributes.type == cudaMemoryTypeDevice) {
      if (attributes.device == state_.index) return;
      status_ = Status::make(StatusCode::failed, "an array lies on GPU %d, the operation runs on GPU %d",
                             attributes.device, state_.index);
      return;
    }
    auto* host = const_cast<void*>(static_cast<const volatile void*>(pointer));
    Copy copy{host, nullptr, std::size_t(count) * sizeof(T), out};
    status_ = state_.allocate(copy.bytes, copy.device);
    if (!status_.ok()) return;
    copies_.push_back(copy);
    if (in) status_ = copyToDevice(state_, copy.device, copy.host, copy.bytes);
    pointer = static_cast<T*>(copy.device);
  }

  State& state_;
  std::vector<Copy> copies_;
  Status status_;
};

void stageTokens(Staging& staging, PolicyRequest& r) {
  const int64_t tokens = r.sequences * r.length;
  staging.input(r.oldLogProbs, tokens);
  if (r.config.klBeta == 0) r.refLogProbs = nullptr;
  staging.input(r.refLogProbs, tokens);
  staging.input(r.mask, tokens);
  staging.input(r.advantages, r.advantagesPerToken ? tokens : r.sequences);
  staging.input(r.tokenWeights, tokens);
}

void stageLogits(Staging& staging, LogitsRequest& r, int64_t rows) {
  const int64_t bytes = rows * r.rowStride * (r.dtype == Dtype::float32 ? 4 : 2);
  auto* logits = static_cast<unsigned char*>(const_cast<void*>(r.logits));
  auto* gradient = static_cast<unsigned char*>(r.gradLogits);
  if (logits == gradient) {
    staging.both(logits, bytes);
    gradient = logits;
  } else {
    staging.input(logits, bytes);
    staging.output(gradient, bytes);
    if (gradient != r.gradLogits) r.zeroed = false;  // its place on the device holds anything
  }
  r.logits = logits;
  r.gradLogits = gradient;
}

// Stages the arrays, enqueues the operation and the copy of its numbers, and copies results back.
template <class Stage, class Enqueue>
Status submit(State& state, std::size_t workspace, const char* what, Pending& pending, const Stage& stage,
              const Enqueue& enqueue) {
  const CurrentDevice current(state.index);
  try {
    if (const Status status = state.needWorkspace(workspace); !status.ok()) return status;
    Staging staging(state);
    stage(staging);
    if (!staging.status().ok()) return staging.status();
    cudaError_t error = enqueue(Stream{state.stream, state.workspace});
    if (error != cudaSuccess) {
      state.dropWorkspace();
      return failure(error, what);
    }
    if (const Status status = state.takeSlot(pending.slot); !status.ok()) return status;
    const Slot& slot = state.slots[std::size_t(pending.slot)];
    error = cudaMemcpyAsync(slot.host, state.results, sizeof(Results), cudaMemcpyDeviceToHost, state.stream);
    if (error == cudaSuccess) error = cudaEventRecord(slot.copied, state.stream);
    const Status status = error == cudaSuccess ? staging.finish() : failure(error, what);
    if (!status.ok()) {
      forget(state, pending);
      pending.slot = -1;
    }
    return status;
  } catch (const std::bad_alloc&) {
    return Status::make(StatusCode::outOfMemory, "not enough memory on the host for an operation on the GPU");
  }
}

}  // namespace

Status submitAdvantages(State& state, const DeviceRewards& request, Pending& pending) {
  DeviceRewards r = request;
  return submit(
      state, advantagesWorkspace(), "computeAdvantages", pending,
      [&](Staging& staging) {
        AdvantageRequest& q = r.request;
        staging.input(q.rewards, r.rewards);
        staging.input(r.rewards32, r.rewards);
        if (r.groupSize == 0) staging.input(q.offsets, q.groups + 1);
        staging.output(q.advantages, r.rewards);
        staging.output(q.weights, r.rewards);
        staging.output(q.groupMean, q.groups);
        staging.output(q.groupStd, q.groups);
        staging.output(q.active, q.groups);
      },
      [&](const Stream& stream) { return advantages(stream, r, &state.results->advantages); });
}

Status submitPolicyLoss(State& state, const PolicyRequest& request, const DeviceRewards* rewards, Pending& pending) {
  PolicyRequest r = request;
  DeviceRewards device;
  if (rewards) device = *rewards;
  return submit(
      state, policyWorkspace(request), "policyLoss", pending,
      [&](Staging& staging) {
        const int64_t tokens = r.sequences * r.length;
        stageTokens(staging, r);
        staging.input(r.logProbs, tokens);
        staging.input(r.entropies, tokens);
        staging.output(r.gradLogProbs, tokens);
        staging.output(r.gradEntropies, tokens);
        if (rewards && device.groupSize == 0) staging.input(device.request.offsets, device.request.groups + 1);
      },
      [&](const Stream& stream) {
        return policyLoss(state.traits, stream, r, rewards ? &device : nullptr, &state.results->loss,
                          &state.results->advantages);
      });
}

Status submitLogitsLoss(State& state, const LogitsRequest& request, const DeviceRewards* rewards, Pending& pending) {
  LogitsRequest r = request;
  DeviceRewards device;
  if (rewards) device = *rewards;
  return submit(
      state, logitsWorkspace(request), "logitsLoss", pending,
      [&](Staging& staging) {
        const int64_t rows = r.policy.sequences * r.policy.length;
        stageTokens(staging, r.policy);
        staging.input(r.tokens, rows);
        staging.output(r.logProbs, rows);
        staging.output(r.entropies, rows);
        stageLogits(staging, r, rows);
        if (rewards && device.groupSize == 0) staging.input(device.request.offsets, device.request.groups + 1);
      },
      [&](const Stream& stream) {
        return logitsLoss(state.traits, stream, r, rewards ? &device : nullptr, &state.results->loss,
                          &state.results->advantages);
      });
}

Status submitLogitsBackward(State& state, const LogitsBackwardRequest& request, Pending& pending) {
  LogitsBackwardRequest q = request;
  return submit(
      state, logitsBackwardWorkspace(), "logitsBackward", pending,
      [&](Staging& staging) {
        LogitsRequest& r = q.logits;
        const int64_t rows = r.policy.sequences * r.policy.length;
        staging.input(r.policy.mask, rows);
        staging.input(r.tokens, rows);
        staging.input(q.gradLogProbs, rows);
        staging.input(q.gradEntropies, rows);
        stageLogits(staging, r, rows);
      },
      [&](const Stream& stream) { return logitsBackward(state.traits, stream, q, &state.results->loss.nonFinite); });
}

namespace {

template <class Submit>
Status wait(State& state, const Submit& submit, Results& results) {
  Pending pending;
  Status status = submit(pending);
  if (status.ok()) status = fetch(state, pending, results);
  forget(state, pending);
  return status;
}

Status advantagesOf(void* opaque, const AdvantageRequest& request, AdvantageMetrics& metrics) {
  State& state = *static_cast<State*>(opaque);
  DeviceRewards rewards{request};
  rewards.rewards = request.offsets[request.groups];
  Results results;
  const Status status = wait(
      state, [&](Pending& pending) { return submitAdvantages(state, rewards, pending); }, results);
  metrics = results.advantages;
  return status;
}

Status policyLossOf(void* opaque, const PolicyRequest& request, LossMetrics& metrics) {
  State& state = *static_cast<State*>(opaque);
  Results results;
  const Status status = wait(
      state, [&](Pending& pending) { return submitPolicyLoss(state, request, nullptr, pending); }, results);
  metrics = results.loss;
  return status;
}

Status logitsLossOf(void* opaque, const LogitsRequest& request, LossMetrics& metrics) {
  State& state = *static_cast<State*>(opaque);
  Results results;
  const Status status = wait(
      state, [&](Pending& pending) { return submitLogitsLoss(state, request, nullptr, pending); }, results);
  metrics = results.loss;
  return status;
}

Status logitsBackwardOf(void* opaque, const LogitsBackwardRequest& request, double& nonFinite) {
  State& state = *static_cast<State*>(opaque);
  Results results;
  const Status status = wait(
      state, [&](Pending& pending) { return submitLogitsBackward(state, request, pending); }, results);
  nonFinite = results.loss.nonFinite;
  return status;
}

}  // namespace

Device device(State& state) { return {&state, advantagesOf, policyLossOf, logitsLossOf, logitsBackwardOf}; }

}  // namespace groupgrad::cuda
