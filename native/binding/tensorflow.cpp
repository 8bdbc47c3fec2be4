#include "tensorflow.hpp"

#include <algorithm>

#include "../tensorflow/packing.hpp"
#include "../tensorflow/registration.hpp"
#include "arguments.hpp"
#include "functions.hpp"
#include "requests.hpp"

namespace groupgrad::binding {

namespace {

Napi::Value registerOperations(const Napi::CallbackInfo& info) {
  const tensorflow::Registration registration = tensorflow::registerOperations(kVersion);
  Napi::Object result = Napi::Object::New(info.Env());
  if (!registration.error.empty()) {
    result.Set("error", registration.error);
    return result;
  }
  Napi::Object operations = Napi::Object::New(info.Env());
  operations.Set("logitsLoss", registration.logitsLoss);
  operations.Set("policyLoss", registration.policyLoss);
  operations.Set("computeAdvantages", registration.advantages);
  result.Set("operations", operations);
  result.Set("tensorflow", registration.tensorflow);
  result.Set("devices", registration.devices);
  return result;
}

template <tensorflow::Call (*read)(const Napi::Object&)>
Napi::Value pack(const Napi::CallbackInfo& info) {
  const std::vector<int32_t> packed = tensorflow::pack(read(argument(info, 0, "plan")));
  Napi::Int32Array result = Napi::Int32Array::New(info.Env(), packed.size());
  std::copy(packed.begin(), packed.end(), result.Data());
  return result;
}

// The second argument: an Int32Array that an operation wrote.
tensorflow::Report readReport(const Napi::CallbackInfo& info) {
  const Napi::Object arguments = Napi::Object::New(info.Env());
  arguments.Set("report", info[1]);
  const int64_t count = getLength(arguments, "report");
  const int32_t* values = nullptr;
  Arrays arrays(info.Env());
  arrays.read(values, arguments, "report", count);
  arrays.take();
  tensorflow::Report report;
  if (!tensorflow::unpack(values, count, report)) {
    throw Napi::TypeError::New(info.Env(),
                               "report: expected the output of an operation of this version, got other values");
  }
  return report;
}

Napi::Value advantageReport(const Napi::CallbackInfo& info) {
  const tensorflow::Call call = readAdvantageCall(argument(info, 0, "plan"));
  return advantageResult(info.Env(), call.advantage, readReport(info).advantage);
}

// Fills the arrays of the plan that a device would fill.
Napi::Value lossReport(const Napi::CallbackInfo& info, const tensorflow::Call& call, bool fromLogits) {
  const Napi::Env env = info.Env();
  const Napi::Object plan = argument(info, 0, "plan");
  const tensorflow::Report report = readReport(info);
  const auto fill = [](const auto& values, auto* to) { std::copy(values.begin(), values.end(), to); };
  if (call.fused) {
    const auto rewards = int64_t(report.advantages.size()), groups = int64_t(report.groupMean.size());
    const Napi::Object output = getObject(getObject(plan, "advantage"), "output");
    const AdvantageRequest out = readOutput(output, rewards, groups);
    fill(report.advantages, out.advantages);
    fill(report.weights, out.weights);
    fill(report.groupMean, out.groupMean);
    fill(report.groupStd, out.groupStd);
    fill(report.active, out.active);
  }
  if (call.rows) {
    float *logProbs = nullptr, *entropies = nullptr;
    Arrays arrays(env);
    arrays.write(logProbs, plan, "logProbs", int64_t(report.logProbs.size()));
    arrays.write(entropies, plan, "entropies", int64_t(report.entropies.size()));
    arrays.take();
    fill(report.logProbs, logProbs);
    fill(report.entropies, entropies);
  }
  return lossResult(env, call.logits.policy, report.loss, call.fused ? &call.advantage : nullptr, report.advantage,
                    fromLogits);
}

Napi::Value policyReport(const Napi::CallbackInfo& info) {
  return lossReport(info, readPolicyCall(argument(info, 0, "plan")), false);
}
Napi::Value logitsReport(const Napi::CallbackInfo& info) {
  return lossReport(info, readLogitsCall(argument(info, 0, "plan")), true);
}

}  // namespace

Napi::Object tensorflowExports(Napi::Env env) {
  Napi::Object result = Napi::Object::New(env);
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    result.Set(name, Napi::Function::New(env, function, name));
  };
  add("register", registerOperations);
  add("packAdvantages", pack<readAdvantageCall>);
  add("packPolicy", pack<readPolicyCall>);
  add("packLogits", pack<readLogitsCall>);
  add("advantageReport", advantageReport);
  add("policyReport", policyReport);
  add("logitsReport", logitsReport);
  return result;
}

}  // namespace groupgrad::binding
