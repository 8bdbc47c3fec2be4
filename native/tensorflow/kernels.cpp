#include "kernels.hpp"

#include <mutex>
#include <new>

#include "../core/device.hpp"
#include "gpu.hpp"
#include "packing.hpp"
#include "places.hpp"
#include "tensors.hpp"

namespace groupgrad::tensorflow {

namespace {

void check(const groupgrad::Status& status) {
  if (status.code == StatusCode::ok) return;
  throw Failure{status.code == StatusCode::outOfMemory ? kResourceExhausted : kInternal, status.message};
}

[[noreturn]] void refuse(const std::string& message) { throw Failure{kInvalidArgument, message}; }

Call readCall(const Tensor& request) {
  Call call;
  const int64_t count = request.bytes() / int64_t(sizeof(int32_t));
  if (!unpack(request.values<int32_t>("request", count), count, call)) {
    refuse("request: expected a request packed by this version of groupgrad");
  }
  return call;
}

void writeReport(TF_OpKernelContext* context, int index, const Report& report) {
  const std::vector<int32_t> packed = pack(report);
  auto* out = allocateOutput<int32_t>(context, index, kInt32, {int64_t(packed.size())});
  std::copy(packed.begin(), packed.end(), out);
}

int64_t product(const char* field, std::initializer_list<int64_t> sizes) {
  int64_t total = 1;
  for (const int64_t size : sizes) {
    if (size < 1 || __builtin_mul_overflow(total, size, &total)) refuse(std::string(field) + ": impossible sizes");
  }
  return total;
}

// Points the request at memory for the device's output.
void prepareAdvantages(AdvantageRequest& r, Report& report) {
  const auto rewards = size_t(r.offsets[r.groups]), groups = size_t(r.groups);
  report.advantages.resize(rewards);
  report.weights.resize(rewards);
  report.groupMean.resize(groups);
  report.groupStd.resize(groups);
  report.active.resize(groups);
  r.advantages = report.advantages.data();
  r.weights = report.weights.data();
  r.groupMean = report.groupMean.data();
  r.groupStd = report.groupStd.data();
  r.active = report.active.data();
}

void checkGroups(const Call& call) {
  bool rising =
      call.advantage.groups >= 1 && call.offsets.front() == 0 && call.offsets.back() == int64_t(call.rewards.size());
  for (size_t g = 1; rising && g < call.offsets.size(); ++g) rising = call.offsets[g - 1] < call.offsets[g];
  if (!rising) refuse("offsets: expected group boundaries that rise from 0 to the number of rewards");
}

// Rewards are few and on the host: the CPU computes their advantages on every device.
class RewardDevice {
 public:
  void compute(Call& call, Report& report) {
    const FloatingPointScope scope;
    checkGroups(call);
    prepareAdvantages(call.advantage, report);
    check(device_.advantages(device_.state, call.advantage, report.advantage));
  }

 private:
  std::unique_ptr<cpu::State, cpu::StateDeleter> state_ = cpu::createState();
  Device device_ = cpu::device(*state_);
};

// The indices of the tensors that every loss reads besides its logits or log-probs.
enum CommonInput { kOld = 1, kReference, kMask, kTokenWeights, kAdvantages, kRequest, kTokens };
enum LossOutput { kLoss, kGradient, kReport };

template <class Place>
class LossKernel {
 public:
  void logitsLoss(TF_OpKernelContext* context) {
    run(context, [&](const Tensor& logits, Call& call, Report& report) {
      LogitsRequest& r = call.logits;
      const int64_t tokens = r.policy.sequences * r.policy.length;
      const int64_t values = product("shape", {r.policy.sequences, r.policy.length, r.vocab});
      const Tensor ids = input(context, kTokens);
      r.rowStride = r.vocab;
      r.logits = logits.values<float>("logits", values);
      r.tokens = ids.values<int32_t>("tokens", tokens);
      if constexpr (Place::kOnHost) checkIds(r);  // a GPU looks for itself
      if (call.inPlace) {
        setOutput(context, kGradient, logits);
        r.gradLogits = logits.data();
      } else {
        r.gradLogits = place_.allocateGradient(context, kGradient, logits.shape());
      }
      const Tensor logProbs = allocateScratch(context, tokens), entropies = allocateScratch(context, tokens);
      r.logProbs = static_cast<float*>(logProbs.data());
      r.entropies = static_cast<float*>(entropies.data());
      check(place_.device().logitsLoss(place_.device().state, r, report.loss));
      if (!call.rows) return;
      report.logProbs.resize(size_t(tokens));
      report.entropies.resize(size_t(tokens));
      place_.toHost(report.logProbs, r.logProbs);
      place_.toHost(report.entropies, r.entropies);
    });
  }

  void policyLoss(TF_OpKernelContext* context) {
    run(context, [&](const Tensor& logProbs, Call& call, Report& report) {
      PolicyRequest& r = call.logits.policy;
      r.logProbs = logProbs.values<float>("logProbs", r.sequences * r.length);
      r.gradLogProbs = static_cast<float*>(place_.allocateGradient(context, kGradient, logProbs.shape()));
      check(place_.device().policyLoss(place_.device().state, r, report.loss));
    });
  }

 private:
  template <class Loss>
  void run(TF_OpKernelContext* context, const Loss& loss) {
    const Tensor x = input(context, 0), old = input(context, kOld), reference = input(context, kReference);
    const Tensor mask = input(context, kMask), weights = input(context, kTokenWeights);
    const Tensor advantages = input(context, kAdvantages), request = input(context, kRequest);
    Call call = readCall(request);
    PolicyRequest& p = call.logits.policy;
    const int64_t tokens = product("shape", {p.sequences, p.length});
    p.oldLogProbs = old.values<float>("oldLogProbs", tokens, true);
    p.refLogProbs = reference.values<float>("refLogProbs", tokens, true);
    p.mask = mask.values<uint8_t>("mask", tokens, true);
    p.tokenWeights = weights.values<float>("tokenWeights", tokens, true);
    if (p.config.klBeta != 0 && !p.refLogProbs) {
      refuse("refLogProbs: expected " + std::to_string(tokens) + " values because kl.beta is not 0, got none");
    }
    if (call.inPlace) checkApart(x, {&old, &reference, &mask, &weights, &advantages});

    const std::lock_guard lock(mutex_);  // kernels are shared, their devices are not for two threads at once
    const typename Place::Scope scope(place_);
    Report report;
    if (call.fused) {
      if (int64_t(call.rewards.size()) != p.sequences) {
        refuse("rewards: expected " + std::to_string(p.sequences) + " values, got " +
               std::to_string(call.rewards.size()));
      }
      rewards_.compute(call, report);
      const auto onDevice = place_.toDevice(context, report.advantages);
      p.advantages = onDevice.data;
      loss(x, call, report);
    } else {
      p.advantages = advantages.values<float>("advantages", p.advantagesPerToken ? tokens : p.sequences);
      loss(x, call, report);
    }
    *allocateOutput<float>(context, kLoss, kFloat, {}) = float(report.loss.loss);
    writeReport(context, kReport, report);
  }

  static void checkIds(const LogitsRequest& r) {
    for (int64_t i = 0; i < r.policy.sequences * r.policy.length; ++i) {
      if ((!r.policy.mask || r.policy.mask[i]) && (r.tokens[i] < 0 || r.tokens[i] >= r.vocab)) {
        refuse("tokens[" + std::to_string(i) + "]: expected an id from 0 to " + std::to_string(r.vocab - 1) + ", got " +
               std::to_string(r.tokens[i]));
      }
    }
  }

  // Output must not overlap input; two tensors may share memory, as those of a reshape do.
  static void checkApart(const Tensor& written, std::initializer_list<const Tensor*> read) {
    const auto* begin = static_cast<const char*>(written.data());
    for (const Tensor* other : read) {
      const auto* otherBegin = static_cast<const char*>(other->data());
      if (otherBegin < begin + written.bytes() && begin < otherBegin + other->bytes()) {
        refuse("logits: expected memory apart from the other inputs because of inPlace, got an overlapping range");
      }
    }
  }

  std::mutex mutex_;
  Place place_;
  RewardDevice rewards_;
};

class AdvantageKernel {
 public:
  void advantages(TF_OpKernelContext* context) {
    const Tensor request = input(context, 0);
    Call call = readCall(request);
    Report report;
    {
      const std::lock_guard lock(mutex_);
      rewards_.compute(call, report);
    }
    const auto write = [&]<class T>(int index, TF_DataType type, const std::vector<T>& values) {
      auto* out = allocateOutput<T>(context, index, type, {int64_t(values.size())});
      std::copy(values.begin(), values.end(), out);
    };
    write(0, kFloat, report.advantages);
    write(1, kFloat, report.weights);
    write(2, kFloat, report.groupMean);
    write(3, kFloat, report.groupStd);
    write(4, kBool, report.active);
    writeReport(context, 5, report);
  }

 private:
  std::mutex mutex_;
  RewardDevice rewards_;
};

// Runs a function that may throw; returns the failure, if any.
template <class F>
bool caught(const F& work, Failure& failure) {
  try {
    work();
    return false;
  } catch (const Failure& problem) {
    failure = problem;
  } catch (const std::bad_alloc&) {
    failure = {kResourceExhausted, "not enough memory for the call's scratch space"};
  } catch (const std::exception& problem) {
    failure = {kInternal, problem.what()};
  }
  return true;
}

template <class Kernel, void (Kernel::*method)(TF_OpKernelContext*)>
KernelFunctions functions(const char* device) {
  return {
      device,
      [](TF_OpKernelConstruction* construction) -> void* {
        Kernel* kernel = nullptr;
        Failure failure;
        if (caught([&] { kernel = new Kernel; }, failure)) {
          api.TF_OpKernelConstruction_Failure(construction, Status(failure).get());
        }
        return kernel;
      },
      [](void* kernel, TF_OpKernelContext* context) {
        Failure failure;
        if (caught([&] { (static_cast<Kernel*>(kernel)->*method)(context); }, failure)) {
          api.TF_OpKernelContext_Failure(context, Status(failure).get());
        }
      },
      [](void* kernel) { delete static_cast<Kernel*>(kernel); },
  };
}

template <class Place>
void addLosses(Operations& all) {
  using Kernel = LossKernel<Place>;
  all.logitsLoss.kernels.push_back(functions<Kernel, &Kernel::logitsLoss>(Place::kType));
  all.policyLoss.kernels.push_back(functions<Kernel, &Kernel::policyLoss>(Place::kType));
}

}  // namespace

Operations operations() {
  const std::vector<Argument> common = {{"old", "float"},     {"reference", "float"},  {"mask", "bool"},
                                        {"weights", "float"}, {"advantages", "float"}, {"request", "int32", true}};
  const std::vector<Argument> results = {{"loss", "float", true}, {"gradient", "float"}, {"report", "int32", true}};
  const auto losses = [&](const char* name, Argument first, std::vector<Argument> more) {
    std::vector<Argument> inputs = {first};
    inputs.insert(inputs.end(), common.begin(), common.end());
    inputs.insert(inputs.end(), more.begin(), more.end());
    return Operation{name, inputs, results, {}};
  };
  Operations all;
  all.logitsLoss = losses("GroupgradLogitsLoss", {"logits", "float"}, {{"tokens", "int32"}});
  all.policyLoss = losses("GroupgradPolicyLoss", {"log_probs", "float"}, {});
  all.advantages = {"GroupgradAdvantages",
                    {{"request", "int32", true}},
                    {{"advantages", "float", true},
                     {"weights", "float", true},
                     {"group_mean", "float", true},
                     {"group_std", "float", true},
                     {"active", "bool", true},
                     {"report", "int32", true}},
                    {functions<AdvantageKernel, &AdvantageKernel::advantages>(CpuPlace::kType)}};
  addLosses<CpuPlace>(all);
#if GROUPGRAD_CUDA
  if (cuda::probe().available) {
    addLosses<GpuPlace>(all);
    all.advantages.kernels.push_back(functions<AdvantageKernel, &AdvantageKernel::advantages>(GpuPlace::kType));
  }
#endif
  return all;
}

}  // namespace groupgrad::tensorflow
