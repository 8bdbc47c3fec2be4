// The addon's exports: version, the devices with the functions of src/devices/plan.ts (interface Device), the same
// losses inside TensorFlow, and the engine behind the tfjs backend. State is per environment, so that several
// worker threads can use the addon at once.

#include <napi.h>

#include "../core/device.hpp"
#include "../cpu/device.hpp"
#include "arguments.hpp"
#include "cuda.hpp"
#include "engine.hpp"
#include "functions.hpp"
#include "requests.hpp"
#include "tensorflow.hpp"

#if !defined(GROUPGRAD_VERSION)
#error "GROUPGRAD_VERSION must be the version of package.json"
#endif

namespace groupgrad::binding {

const char* const kVersion = GROUPGRAD_VERSION;

namespace {

class Addon : public Napi::Addon<Addon> {
 public:
  Addon(Napi::Env env, Napi::Object exports)
      : cpuState_(cpu::createState()), cpu_(cpu::device(*cpuState_)), engineState_(engine::cpu::createState()) {
    Napi::Object cpu = Napi::Object::New(env);
    cpu.Set("instructionSet", cpu::instructionSet(*cpuState_));
    cpu.Set("threads", cpu::threadCount(*cpuState_));
    setMethod(cpu, "computeAdvantages", [this](const Napi::CallbackInfo& info) { return computeAdvantages(info); });
    setMethod(cpu, "policyLoss", [this](const Napi::CallbackInfo& info) { return policyLoss(info); });
    setMethod(cpu, "logitsLoss", [this](const Napi::CallbackInfo& info) { return logitsLoss(info); });
    setMethod(cpu, "logitsBackward", [this](const Napi::CallbackInfo& info) { return logitsBackward(info); });
    exports.Set("version", kVersion);
    exports.Set("cpu", cpu);
    exports.Set("cuda", cudaExports(env, cpu_));
    exports.Set("engine", engineExports(env, *engineState_));
    exports.Set("tensorflow", tensorflowExports(env));
  }

 private:
  Napi::Value computeAdvantages(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const AdvantageRequest request =
        readAdvantage(argument(info, 0, "plan"), argument(info, 1, "output"), nullptr).request;
    AdvantageMetrics m;
    check(env, cpu_.advantages(cpu_.state, request, m));
    return advantageResult(env, request, m);
  }

  Napi::Value policyLoss(const Napi::CallbackInfo& info) {
    LossInputs inputs(nullptr);
    readPolicy(argument(info, 0, "plan"), inputs);
    return run(
        info.Env(), inputs, [&](LossMetrics& m) { return cpu_.policyLoss(cpu_.state, inputs.policy, m); },
        inputs.policy.entropies != nullptr);
  }

  Napi::Value logitsLoss(const Napi::CallbackInfo& info) {
    LossInputs inputs(nullptr);
    const LogitsRequest request = readLogits(argument(info, 0, "plan"), inputs);
    return run(
        info.Env(), inputs, [&](LossMetrics& m) { return cpu_.logitsLoss(cpu_.state, request, m); }, true);
  }

  Napi::Value logitsBackward(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const LogitsBackwardRequest request = readLogitsBackward(argument(info, 0, "plan"), nullptr);
    double nonFinite = 0;
    check(env, cpu_.logitsBackward(cpu_.state, request, nonFinite));
    return backwardResult(env, nonFinite);
  }

  // Advantages first if they come from rewards, then the loss.
  template <class Loss>
  Napi::Value run(Napi::Env env, const LossInputs& inputs, const Loss& loss, bool entropy) {
    AdvantageMetrics a;
    LossMetrics m;
    if (inputs.fused) check(env, cpu_.advantages(cpu_.state, inputs.advantage.request, a));
    check(env, loss(m));
    return lossResult(env, inputs.policy, m, inputs.fused ? &inputs.advantage.request : nullptr, a, entropy);
  }

  std::unique_ptr<cpu::State, cpu::StateDeleter> cpuState_;
  Device cpu_;
  std::unique_ptr<engine::cpu::State, engine::cpu::StateDeleter> engineState_;
};

}  // namespace
}  // namespace groupgrad::binding

using GroupgradAddon = groupgrad::binding::Addon;
NODE_API_NAMED_ADDON(groupgrad, GroupgradAddon)
