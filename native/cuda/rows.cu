// Launches K3: which kernel for which vocabulary, type and device.
#include "rows.hpp"

#include <algorithm>

#include "launch.hpp"
#include "rows_cluster.cuh"
#include "rows_stream.cuh"

namespace groupgrad::cuda {

namespace {

// The smallest cluster whose slices are of a good size, or the largest there is if those fit at all; else 0.
int clusterRanks(const DeviceTraits& traits, int64_t vocab, int elementBytes) {
  if (!traits.clusters || vocab <= kWarpLogits) return 0;
  int ranks = 1;
  while (ranks < kMaxRanks && logitsPerSlice(vocab, ranks, elementBytes) * elementBytes > kGoodSlice) ranks *= 2;
  return clusterSharedBytes(vocab, ranks, elementBytes) <= traits.sharedMemoryPerBlock ? ranks : 0;
}

// Lets a kernel have all of the shared memory that a block may have. The limit is the process's, not the call's: a
// lower one for this call could meet another thread's launch.
template <class Kernel>
cudaError_t allowSharedMemory(const DeviceTraits& traits, Kernel* kernel) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, traits.sharedMemoryPerBlock);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100);  // percent
}

template <class Element, RowVisit visit>
cudaError_t launchAs(const DeviceTraits& traits, cudaStream_t stream, RowsLaunch p) {
  const LogitsRequest& r = p.request;
  const int64_t rows = r.policy.sequences * r.policy.length;
  constexpr int kBytes = kElementBytes<Element>;
  if (const int ranks = clusterRanks(traits, r.vocab, kBytes)) {
    const auto kernel = clusterRows<Element, visit>;
    const auto bytes = std::size_t(clusterSharedBytes(r.vocab, ranks, kBytes));
    const LaunchShape shape{
        .blocks = rows * ranks, .threads = kClusterThreads, .sharedMemory = bytes, .cluster = ranks};
    cudaError_t error = allowSharedMemory(traits, kernel);
    bool fits = false;
    if (error == cudaSuccess) error = clusterFits(kernel, shape, fits);
    if (error != cudaSuccess) return error;
    p.sliceLogits = logitsPerSlice(r.vocab, ranks, kBytes);
    p.chunkLogits = logitsPerChunk<Element>(p.sliceLogits);
    if (fits) return launch(kernel, shape, stream, p);
  }
  if (r.vocab <= kWarpLogits) {
    constexpr int64_t kTeams = kSmallRowThreads / kWarp;
    const int64_t blocks = std::min<int64_t>((rows + kTeams - 1) / kTeams, int64_t(traits.multiprocessors) * 64);
    return launch(streamRows<Element, visit, WarpTeam>, {.blocks = blocks, .threads = kSmallRowThreads}, stream, p,
                  int64_t(0));
  }
  const auto kernel = streamRows<Element, visit, BlockTeam<kStreamThreads>>;
  const int64_t row = r.vocab * kBytes;
  const int64_t room = traits.sharedMemoryPerBlock - kStreamHeader - 1024;  // 1024: static, and the driver's own
  const int64_t kept = visit == RowVisit::both ? std::max<int64_t>(0, std::min(row, room)) / 4 : 0;
  const auto shared = std::size_t(kStreamHeader + 4 * kept);
  const cudaError_t error = allowSharedMemory(traits, kernel);
  if (error != cudaSuccess) return error;
  const int64_t blocks = std::min<int64_t>(rows, int64_t(traits.multiprocessors) * 64);
  return launch(kernel, {.blocks = blocks, .threads = kStreamThreads, .sharedMemory = shared}, stream, p, kept);
}

template <class Element>
cudaError_t launchVisit(const DeviceTraits& traits, cudaStream_t stream, RowVisit visit, const RowsLaunch& p) {
  switch (visit) {
    case RowVisit::both: return launchAs<Element, RowVisit::both>(traits, stream, p);
    case RowVisit::forward: return launchAs<Element, RowVisit::forward>(traits, stream, p);
    case RowVisit::backward: break;
  }
  return launchAs<Element, RowVisit::backward>(traits, stream, p);
}

}  // namespace

RowsLaunch::RowsLaunch(const LogitsRequest& request)
    : request(request), inverseTemperature(float(1 / request.temperature)), scale(inverseTemperature * kLog2e) {}

cudaError_t launchRows(const DeviceTraits& traits, cudaStream_t stream, RowVisit visit, const RowsLaunch& p) {
  switch (p.request.dtype) {
    case Dtype::float32: return launchVisit<Float32>(traits, stream, visit, p);
    case Dtype::bfloat16: return launchVisit<Bfloat16>(traits, stream, visit, p);
    case Dtype::float16: break;
  }
  return launchVisit<Float16>(traits, stream, visit, p);
}

}  // namespace groupgrad::cuda
