// Launches the row kernels (K3): selects one for the vocabulary, type and device.
#include "rows.hpp"

#include <algorithm>

#include "launch.hpp"
#include "rows_cluster.cuh"
#include "rows_stream.cuh"

namespace groupgrad::cuda {

namespace {

LaunchShape clusterShape(int64_t rows, int64_t vocab, int ranks, int elementBytes) {
  return {.blocks = rows * ranks,
          .threads = kClusterThreads,
          .sharedMemory = std::size_t(clusterSharedBytes(vocab, ranks, elementBytes)),
          .cluster = ranks};
}

// How many blocks share a row: the fewest whose slices have a good size, or 16 if 8 would leave a multiprocessor few
// blocks and the device supports such clusters, or 8 if those fit at all; 0 if no cluster can hold the row. The
// same for every visit, so that a row's sums have the same bits in each; determined with the kernel that does both
// visits at once.
template <class Element>
cudaError_t clusterRanks(const DeviceTraits& traits, int64_t vocab, int& ranks) {
  constexpr int kBytes = kElementBytes<Element>;
  ranks = 0;
  if (!traits.clusters || vocab <= kWarpLogits) return cudaSuccess;
  const auto slice = [&](int blocks) { return logitsPerSlice(vocab, blocks, kBytes) * kBytes; };
  const int64_t room = traits.sharedMemoryPerBlock - kClusterHeader - 16;
  const int64_t good = goodSlice(traits.sharedMemoryPerBlock);
  int portable = 1;
  while (portable < kPortableRanks && slice(portable) > good) portable *= 2;
  const auto kernel = clusterRows<Element, RowVisit::both>;
  cudaError_t error = allowSharedMemory(kernel, traits.device, traits.sharedMemoryPerBlock);
  const auto use = [&](int blocks) {
    if (error != cudaSuccess || ranks != 0 || slice(blocks) > room) return;
    const bool wide = blocks > kPortableRanks;
    bool fits = false;
    cudaError_t asked = wide ? allowWideClusters(kernel, traits.device) : cudaSuccess;
    if (asked == cudaSuccess) asked = clusterFits(kernel, traits.device, clusterShape(1, vocab, blocks, kBytes), fits);
    if (wide && asked != cudaSuccess) {
      cudaGetLastError();  // the device does not know such clusters
      return;
    }
    error = asked;
    if (fits) ranks = blocks;
  };
  if (slice(portable) > good) use(kMaxRanks);
  use(portable);
  return error;
}

template <class Element, RowVisit visit>
cudaError_t launchAs(const DeviceTraits& traits, cudaStream_t stream, RowsLaunch p) {
  const LogitsRequest& r = p.request;
  const int64_t rows = r.policy.sequences * r.policy.length;
  constexpr int kBytes = kElementBytes<Element>;
  int ranks = 0;
  cudaError_t error = clusterRanks<Element>(traits, r.vocab, ranks);
  if (error != cudaSuccess) return error;
  if (ranks > 0) {
    const auto kernel = clusterRows<Element, visit>;
    error = allowSharedMemory(kernel, traits.device, traits.sharedMemoryPerBlock);
    if (error == cudaSuccess && ranks > kPortableRanks) error = allowWideClusters(kernel, traits.device);
    if (error != cudaSuccess) return error;
    p.sliceLogits = logitsPerSlice(r.vocab, ranks, kBytes);
    p.chunkLogits = logitsPerChunk<Element>(p.sliceLogits);
    LaunchShape shape = clusterShape(rows, r.vocab, ranks, kBytes);
    shape.overlaps = traits.overlaps;
    return launch(kernel, shape, stream, p);
  }
  if (r.vocab <= kWarpLogits) {
    constexpr int64_t kTeams = kSmallRowThreads / kWarp;
    const int64_t blocks = std::min<int64_t>((rows + kTeams - 1) / kTeams, int64_t(traits.multiprocessors) * 64);
    return launch(streamRows<Element, visit, WarpTeam>, {.blocks = blocks, .threads = kSmallRowThreads}, stream, p, 0);
  }
  const auto kernel = streamRows<Element, visit, BlockTeam<kStreamThreads>>;
  const int64_t row = r.vocab * kBytes;
  const int64_t room = traits.sharedMemoryPerBlock - kStreamHeader - 1024;     // 1024: static, and the driver's own
  constexpr bool twice = visit == RowVisit::both || visit == RowVisit::given;  // the row is wanted again
  const int kept = twice ? int(std::max<int64_t>(0, std::min(row, room)) / Vector::kBytes) : 0;
  const auto shared = std::size_t(kStreamHeader + Vector::kBytes * kept);
  error = allowSharedMemory(kernel, traits.device, traits.sharedMemoryPerBlock);
  if (error != cudaSuccess) return error;
  const int64_t blocks = std::min<int64_t>(rows, int64_t(traits.multiprocessors) * 64);
  return launch(kernel, {.blocks = blocks, .threads = kStreamThreads, .sharedMemory = shared}, stream, p, kept);
}

template <class Element>
cudaError_t launchVisit(const DeviceTraits& traits, cudaStream_t stream, RowVisit visit, const RowsLaunch& p) {
  switch (visit) {
    case RowVisit::both: return launchAs<Element, RowVisit::both>(traits, stream, p);
    case RowVisit::forward: return launchAs<Element, RowVisit::forward>(traits, stream, p);
    case RowVisit::given: return launchAs<Element, RowVisit::given>(traits, stream, p);
    case RowVisit::backward: break;
  }
  return launchAs<Element, RowVisit::backward>(traits, stream, p);
}

}  // namespace

cudaError_t compiledArchitecture(int& architecture) {
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, clusterRows<Float32, RowVisit::forward>);
  architecture = attributes.ptxVersion;
  return error;
}

RowsLaunch::RowsLaunch(const LogitsRequest& request)
    : request(request),
      inverseTemperature(float(1 / request.temperature)),
      gradientScale(float(request.policy.lossScale * double(inverseTemperature))),
      scale(inverseTemperature * kLog2e) {}

cudaError_t launchRows(const DeviceTraits& traits, cudaStream_t stream, RowVisit visit, const RowsLaunch& p) {
  switch (p.request.dtype) {
    case Dtype::float32: return launchVisit<Float32>(traits, stream, visit, p);
    case Dtype::bfloat16: return launchVisit<Bfloat16>(traits, stream, visit, p);
    case Dtype::float16: break;
  }
  return launchVisit<Float16>(traits, stream, visit, p);
}

}  // namespace groupgrad::cuda
