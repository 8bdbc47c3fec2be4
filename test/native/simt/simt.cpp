// The emulated device: fibers for threads, and the runtime's functions.
#include <cuda_runtime.h>
#include <ucontext.h>
#include <simt_primitives.hpp>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace simt {

namespace {

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "simt: %s\n", what);
  std::abort();
}

// ---- Switching between fibers -----------------------------------------------------------------------------------

#if defined(__x86_64__)
// Saves the callee-saved registers on the stack of `from`, and restores those on the stack of `to`.
extern "C" void simtSwitch(void** from, void* to);
asm(R"(
.text
.globl simtSwitch
.hidden simtSwitch
.type simtSwitch, @function
simtSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simtSwitch, .-simtSwitch
)");

class Context {
 public:
  void start(char* stack, std::size_t size, void (*entry)()) {
    auto* top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + size) / 16 * 16);
    *--top = nullptr;  // the entry's return address: it never returns
    *--top = reinterpret_cast<void*>(entry);
    top -= 6;
    stackPointer_ = top;
  }
  static void change(Context& from, Context& to) { simtSwitch(&from.stackPointer_, to.stackPointer_); }

 private:
  void* stackPointer_ = nullptr;
};
#else
class Context {
 public:
  void start(char* stack, std::size_t size, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = size;
    makecontext(&context_, entry, 0);
  }
  static void change(Context& from, Context& to) { swapcontext(&from.context_, &to.context_); }

 private:
  ucontext_t context_;
};
#endif

// ---- Threads, warps, blocks, clusters ---------------------------------------------------------------------------

struct Barrier {
  int expected = 0;
  int arrived = 0;
  uint64_t generation = 0;

  void arrive() {
    if (++arrived == expected) release();
  }
  void leave() {  // barriers do not wait for a thread that has ended
    --expected;
    if (arrived == expected && arrived > 0) release();
  }
  void release() {
    arrived = 0;
    ++generation;
  }
};

struct Warp {
  Barrier barrier;
  std::byte lanes[2][32 * kLaneBytes];
};

struct Copy {
  void* to;
  const void* from;
  uint32_t bytes;
  uint64_t* barrier;
};

struct Cluster {
  Barrier barrier;
  std::vector<struct Block*> blocks;
};

struct Block {
  dim3 index{0};
  uint32_t rank = 0;
  Cluster* cluster = nullptr;
  Barrier barrier;
  const char* barrierFile = "";  // where the threads that have arrived are
  int barrierLine = 0;
  std::vector<Warp> warps;
  std::unique_ptr<unsigned char[]> memory;
  unsigned char* shared = nullptr;
  std::size_t sharedBytes = 0;
  std::map<const void*, std::unique_ptr<unsigned char[]>> named;
  std::vector<Copy> loads;
  std::vector<Copy> stores;
};

struct Thread {
  Context context;
  Coordinates at;
  Block* block = nullptr;
  Warp* warp = nullptr;
  uint64_t exchanges = 0;
  uint64_t clusterGeneration = 0;
  bool done = false;
};

constexpr std::size_t kStack = 64 * 1024;
constexpr std::size_t kGuard = 64;

struct Machine {
  Context scheduler;
  Thread* current = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::vector<std::unique_ptr<char[]>> stacks;
  int64_t awaited = 0;    // how many threads of the launch have called awaitEarlierKernels()
  uint64_t progress = 0;  // counts events that let a waiting thread continue
  uint32_t random = 12345;

  uint32_t draw(uint32_t below) {
    random = random * 1664525u + 1013904223u;
    return (random >> 8) % below;
  }
};
thread_local Machine machine;

Thread& self() { return *machine.current; }

void waitWhile(const std::function<bool()>& condition) {
  while (condition()) yieldThread();
}

void threadEntry() {
  (*machine.kernel)();
  Thread& t = self();
  t.done = true;
  ++machine.progress;
  t.block->barrier.leave();
  t.warp->barrier.leave();
  t.block->cluster->barrier.leave();
  Context::change(t.context, machine.scheduler);
  die("a thread that ended went on");
}

// Runs the threads of these blocks together, in an order that changes from round to round. In most launches one
// block or one warp runs ahead of or behind the others, so that missing waits are detected.
void runTogether(std::vector<std::unique_ptr<Block>>& blocks, const cudaLaunchConfig_t& config) {
  const unsigned threads = config.blockDim.x;
  std::vector<Thread> all(blocks.size() * threads);
  while (machine.stacks.size() < all.size()) machine.stacks.emplace_back(new char[kStack]);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    Block& block = *blocks[b];
    block.barrier.expected = int(threads);
    block.warps = std::vector<Warp>((threads + 31) / 32);
    for (unsigned i = 0; i < threads; ++i) {
      Thread& t = all[b * threads + i];
      t.at.threadIdx = dim3(i);
      t.at.blockIdx = block.index;
      t.at.gridDim = config.gridDim;
      t.block = &block;
      t.warp = &block.warps[i / 32];
      ++t.warp->barrier.expected;
      t.context.start(machine.stacks[b * threads + i].get(), kStack, threadEntry);
    }
  }
  std::size_t left = all.size();
  uint64_t seen = 0;
  int idle = 0;
  const std::size_t groupSize = machine.draw(2) == 0 ? threads : 32;
  const std::size_t chosen = machine.draw(uint32_t(all.size())) / groupSize;
  const uint32_t mode = machine.draw(5);  // 0: in step; 1, 2: the chosen one ahead; 3, 4: behind
  std::vector<bool> waits((all.size() + groupSize - 1) / groupSize);
  while (left > 0) {
    for (std::size_t g = 0; g < waits.size(); ++g) {
      waits[g] = mode > 2 ? g == chosen && machine.draw(16) != 0 : mode > 0 && g != chosen && machine.draw(4) != 0;
    }
    const std::size_t start = machine.draw(uint32_t(all.size()));
    const bool forward = machine.draw(2) == 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::size_t index = forward ? (start + i) % all.size() : (start + all.size() - i) % all.size();
      Thread& t = all[index];
      if (t.done || waits[index / groupSize]) continue;
      machine.current = &t;
      Context::change(machine.scheduler, t.context);
      if (t.done) --left;
    }
    idle = machine.progress == seen ? idle + 1 : 0;
    seen = machine.progress;
    if (idle > 400) die("deadlock: no thread can go on");
  }
  machine.current = nullptr;
  for (const auto& block : blocks) {
    if (!block->stores.empty()) die("a block ended before its bulk stores had read shared memory");
    if (!block->loads.empty()) die("a block ended while bulk loads were on their way");
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (block->shared[block->sharedBytes + i] != 0xa5) die("a write behind the dynamic shared memory");
    }
  }
}

}  // namespace

const Coordinates& here() { return self().at; }
void yieldThread() { Context::change(self().context, machine.scheduler); }

void blockBarrier(const char* file, int line) {
  Block& block = *self().block;
  Barrier& barrier = block.barrier;
  const uint64_t generation = barrier.generation;
  if (barrier.arrived == 0) {
    block.barrierFile = file;
    block.barrierLine = line;
  }
  if (line != block.barrierLine || std::strcmp(file, block.barrierFile) != 0) {
    std::fprintf(stderr, "simt: %s:%d and %s:%d\n", block.barrierFile, block.barrierLine, file, line);
    die("threads of a block wait at different barriers");
  }
  barrier.arrive();
  ++machine.progress;
  waitWhile([&] { return barrier.generation == generation; });
}
void warpBarrier() {
  Barrier& barrier = self().warp->barrier;
  const uint64_t generation = barrier.generation;
  barrier.arrive();
  ++machine.progress;
  waitWhile([&] { return barrier.generation == generation; });
}
const std::byte* exchangeInWarp(const void* value, std::size_t size) {
  if (size > kLaneBytes) die("a shuffle of too many bytes");
  Thread& t = self();
  std::byte* lanes = t.warp->lanes[t.exchanges++ % 2];
  std::memcpy(lanes + t.at.threadIdx.x % 32 * kLaneBytes, value, size);
  warpBarrier();
  return lanes;
}
void* blockSharedMemory(const void* tag, std::size_t bytes) {
  auto& memory = self().block->named[tag];
  if (!memory) {
    memory.reset(new unsigned char[bytes]);
    std::memset(memory.get(), 0xff, bytes);
  }
  return memory.get();
}
unsigned char* dynamicSharedMemory() { return self().block->shared; }

uint32_t clusterRank() { return self().block->rank; }
uint32_t clusterSize() { return uint32_t(self().block->cluster->blocks.size()); }
void clusterArrive() {
  Thread& t = self();
  t.clusterGeneration = t.block->cluster->barrier.generation;
  t.block->cluster->barrier.arrive();
  ++machine.progress;
}
void clusterWait() {
  Thread& t = self();
  waitWhile([&] { return t.block->cluster->barrier.generation == t.clusterGeneration; });
}
void* inPeer(void* shared, uint32_t rank) {
  Block& block = *self().block;
  const auto offset = static_cast<unsigned char*>(shared) - block.shared;
  if (offset < 0 || std::size_t(offset) >= block.sharedBytes) die("an address outside of the shared memory");
  if (rank >= block.cluster->blocks.size()) die("a rank outside of the cluster");
  return block.cluster->blocks[rank]->shared + offset;
}

namespace {
struct BulkBarrier {
  int32_t pending;   // bytes
  int16_t arrivals;  // still expected
  uint16_t magic;
};
constexpr uint16_t kMagic = 0x7b1c;

BulkBarrier& at(uint64_t* barrier) {
  auto& b = *reinterpret_cast<BulkBarrier*>(barrier);
  if (b.magic != kMagic) die("a barrier that was not initialised");
  return b;
}
void checkBulk(const void* shared, const void* global, uint32_t bytes) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16 || bytes % 16) {
    die("a bulk copy that is not a whole number of aligned 16-byte vectors");
  }
}
}  // namespace

void barrierInit(uint64_t* barrier) { *reinterpret_cast<BulkBarrier*>(barrier) = {0, 1, kMagic}; }
void barrierExpect(uint64_t* barrier, uint32_t bytes) {
  BulkBarrier& b = at(barrier);
  b.pending += int32_t(bytes);
  --b.arrivals;
}
void bulkLoad(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  checkBulk(shared, global, bytes);
  at(barrier);
  self().block->loads.push_back({shared, global, bytes, barrier});
}
void barrierWait(uint64_t* barrier) {
  Block& block = *self().block;
  at(barrier);
  waitWhile([&] {
    const BulkBarrier& b = at(barrier);
    if (b.arrivals == 0 && b.pending == 0) return false;
    if (!block.loads.empty() && machine.draw(8) == 0) {  // one of the copies completes
      const std::size_t i = machine.draw(uint32_t(block.loads.size()));
      const Copy copy = block.loads[i];
      block.loads.erase(block.loads.begin() + std::ptrdiff_t(i));
      std::memcpy(copy.to, copy.from, copy.bytes);
      at(copy.barrier).pending -= int32_t(copy.bytes);
    }
    ++machine.progress;
    return true;
  });
}
void bulkStore(void* global, const void* shared, uint32_t bytes) {
  checkBulk(shared, global, bytes);
  self().block->stores.push_back({global, shared, bytes, nullptr});
}
void bulkStoresRead() {
  for (int i = 0; i < 3; ++i) yieldThread();  // time for others to overwrite what is being read
  for (const Copy& copy : self().block->stores) std::memcpy(copy.to, copy.from, copy.bytes);
  self().block->stores.clear();
}

namespace {
// The properties of the emulated device; read from the environment, so that tests can choose.
int setting(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoi(value) : otherwise;
}

// Calls that cost as much as a launch: the environment limits how many a program may make.
void countCall(std::atomic<int>& calls, const char* limit) {
  if (++calls > setting(limit, INT_MAX)) die("more calls than the environment allows");
}

thread_local int currentDevice = 0;

// A process-wide limit for each kernel on each device, as on a GPU.
struct Limits {
  std::size_t sharedMemory = 48 * 1024;
  unsigned cluster = 8;
};
std::mutex limitsMutex;
std::map<std::pair<const void*, int>, Limits> allLimits;

Limits limitsOf(const void* kernel) {
  const std::lock_guard lock(limitsMutex);
  return allLimits[{kernel, currentDevice}];
}

unsigned clusterOf(const cudaLaunchConfig_t& config) {
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id == cudaLaunchAttributeClusterDimension) return config.attrs[i].val.clusterDim.x;
  }
  return 1;
}
}  // namespace

void countQuestion() {
  static std::atomic<int> calls = 0;
  countCall(calls, "SIMT_MOST_QUESTIONS");
}

cudaError_t setAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  countQuestion();
  const std::lock_guard lock(limitsMutex);
  Limits& limits = allLimits[{kernel, currentDevice}];
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) limits.sharedMemory = std::size_t(value);
  if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) limits.cluster = value != 0 ? 16 : 8;
  return cudaSuccess;
}

cudaError_t activeClusters(const void* kernel, const cudaLaunchConfig_t& config, int& clusters) {
  countQuestion();
  const Limits limits = limitsOf(kernel);
  if (config.dynamicSmemBytes > limits.sharedMemory) return fail(cudaErrorInvalidValue);
  if (int(clusterOf(config)) > std::min(int(limits.cluster), setting("SIMT_LARGEST_CLUSTER", 16))) {
    return fail(cudaErrorInvalidClusterSize);
  }
  clusters = setting("SIMT_ACTIVE_CLUSTERS", 1);
  return cudaSuccess;
}

cudaError_t runKernel(const void* kernel, const cudaLaunchConfig_t& config, const std::function<void()>& thread) {
  const Limits limits = limitsOf(kernel);
  if (config.dynamicSmemBytes > limits.sharedMemory) return fail(cudaErrorInvalidValue);
  const unsigned cluster = clusterOf(config);
  if (int(cluster) > std::min(int(limits.cluster), setting("SIMT_LARGEST_CLUSTER", 16))) {
    return fail(cudaErrorInvalidClusterSize);
  }
  bool cooperative = false, overlaps = false;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const auto& [id, value] = config.attrs[i];
    if (id == cudaLaunchAttributeCooperative) cooperative = value.cooperative != 0;
    if (id == cudaLaunchAttributeProgrammaticStreamSerialization) {
      overlaps = value.programmaticStreamSerializationAllowed != 0;
    }
  }
  const unsigned grid = config.gridDim.x;
  if (grid == 0 || config.blockDim.x == 0 || config.blockDim.x > 1024 || grid % cluster != 0) {
    return fail(cudaErrorInvalidConfiguration);
  }
  if (setting("SIMT_TRACE", 0) != 0) {
    std::fprintf(stderr, "simt: %u blocks of %u threads, clusters of %u, %zu bytes of shared memory%s%s\n", grid,
                 config.blockDim.x, cluster, config.dynamicSmemBytes, cooperative ? ", cooperative" : "",
                 overlaps ? ", overlapping" : "");
  }
  machine.kernel = &thread;
  machine.awaited = 0;
  const unsigned together = cooperative ? grid : cluster;
  for (unsigned first = 0; first < grid; first += together) {
    std::vector<std::unique_ptr<Block>> blocks;
    std::vector<std::unique_ptr<Cluster>> clusters;
    for (unsigned i = 0; i < together; ++i) {
      if (i % cluster == 0) {
        clusters.emplace_back(new Cluster());
        clusters.back()->barrier.expected = int(cluster * config.blockDim.x);
      }
      auto block = std::make_unique<Block>();
      block->index = dim3(first + i);
      block->rank = i % cluster;
      block->cluster = clusters.back().get();
      block->cluster->blocks.push_back(block.get());
      block->sharedBytes = config.dynamicSmemBytes;
      block->memory.reset(new unsigned char[config.dynamicSmemBytes + kGuard + 128]);
      block->shared =
          reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(block->memory.get()) + 127) / 128 * 128);
      std::memset(block->shared, 0xff, config.dynamicSmemBytes);
      std::memset(block->shared + config.dynamicSmemBytes, 0xa5, kGuard);
      blocks.push_back(std::move(block));
    }
    runTogether(blocks, config);
  }
  // Such a kernel may start before earlier ones have ended.
  if (overlaps && machine.awaited != int64_t(grid) * config.blockDim.x) return fail(cudaErrorIllegalAddress);
  return cudaSuccess;
}

int compiledArchitecture() { return setting("SIMT_COMPILED", setting("SIMT_CAPABILITY", 90)); }
void awaitEarlierKernels() { ++machine.awaited; }

// ---- The runtime ------------------------------------------------------------------------------------------------

namespace {

struct Allocation {
  std::size_t bytes;
  int device;
};
struct Memory {
  std::mutex mutex;
  std::map<uintptr_t, Allocation> allocations;
  std::size_t used = 0;
};
Memory& memory() {
  static Memory instance;
  return instance;
}
std::size_t capacity() { return std::size_t(setting("SIMT_MEMORY_MIB", 4096)) << 20; }

thread_local cudaError_t lastError = cudaSuccess;

}  // namespace

cudaError_t fail(cudaError_t error) {
  if (error != cudaSuccess) lastError = error;
  return error;
}

}  // namespace simt

using simt::fail;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  const int error = simt::setting("SIMT_DEVICE_ERROR", 0);
  if (error) return fail(cudaError_t(error));
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = simt::currentDevice;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  simt::currentDevice = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 4; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = simt::setting("SIMT_SHARED_KIB", 227) * 1024; break;
    case cudaDevAttrComputeCapabilityMajor: *value = simt::setting("SIMT_CAPABILITY", 90) / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = simt::setting("SIMT_CAPABILITY", 90) % 10; break;
    case cudaDevAttrMemoryPoolsSupported: *value = simt::setting("SIMT_POOLS", 1); break;
    case cudaDevAttrClusterLaunch: *value = simt::setting("SIMT_CAPABILITY", 90) >= 90; break;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "emulated on the processor");
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = simt::setting("SIMT_DRIVER", simt::setting("SIMT_DEVICE_ERROR", 0) ? 0 : 13000);
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  std::lock_guard lock(simt::memory().mutex);
  *total = simt::capacity();
  *free = *total - simt::memory().used;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  auto& memory = simt::memory();
  std::lock_guard lock(memory.mutex);
  *pointer = nullptr;
  // No address space is so large: a different error from being out of memory, as a driver may return.
  if (bytes >> 47 != 0) return fail(cudaErrorInvalidValue);
  if (bytes > simt::capacity() - memory.used) return fail(cudaErrorMemoryAllocation);
  auto* raw = static_cast<unsigned char*>(std::aligned_alloc(256, (bytes + 512 + 255) / 256 * 256));
  if (!raw) return fail(cudaErrorMemoryAllocation);
  std::memset(raw, 0xa5, 256);
  std::memset(raw + 256, 0xff, bytes);
  std::memset(raw + 256 + bytes, 0xa5, 256);
  memory.allocations[reinterpret_cast<uintptr_t>(raw + 256)] = {bytes, simt::currentDevice};
  memory.used += bytes;
  *pointer = raw + 256;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  if (!pointer) return cudaSuccess;
  auto& memory = simt::memory();
  std::lock_guard lock(memory.mutex);
  const auto found = memory.allocations.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == memory.allocations.end()) simt::die("freed what was not allocated");
  auto* data = static_cast<unsigned char*>(pointer);
  for (int i = 0; i < 256; ++i) {
    if (data[i - 256] != 0xa5 || data[found->second.bytes + std::size_t(i)] != 0xa5) {
      simt::die("a write outside of an allocation");
    }
  }
  memory.used -= found->second.bytes;
  memory.allocations.erase(found);
  std::free(data - 256);
  return cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = new simtPool();
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return cudaSuccess; }
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  delete pool;
  return cudaSuccess;
}
cudaError_t cudaMallocFromPoolAsync(void** pointer, std::size_t bytes, cudaMemPool_t, cudaStream_t) {
  return cudaMalloc(pointer, bytes);
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return cudaFree(pointer); }
cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  static std::atomic<int> calls = 0;
  simt::countCall(calls, "SIMT_MOST_HOST_ALLOCATIONS");
  *pointer = std::malloc(bytes);
  return *pointer ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  auto& memory = simt::memory();
  std::lock_guard lock(memory.mutex);
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto after = memory.allocations.upper_bound(address);
  const bool inside = after != memory.allocations.begin() && (--after, address < after->first + after->second.bytes);
  *attributes = {inside ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered, inside ? after->second.device : -2};
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new simtStream();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new simtEvent();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaGetLastError() {
  const cudaError_t error = simt::lastError;
  simt::lastError = cudaSuccess;
  return error;
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidClusterSize: return "cudaErrorInvalidClusterSize";
    default: return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "emulated error";
}
