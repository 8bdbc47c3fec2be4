// What the functions of all devices share: their arguments, errors and results.
#pragma once

#include <napi.h>

#include <string>

#include "../core/device.hpp"
#include "requests.hpp"

namespace groupgrad::binding {

inline Napi::Object argument(const Napi::CallbackInfo& info, size_t index, const char* field) {
  if (info.Length() <= index || !info[index].IsObject()) {
    throw Napi::TypeError::New(info.Env(), std::string(field) + ": expected an object");
  }
  return info[index].As<Napi::Object>();
}

template <class Function>
void setMethod(Napi::Object& object, const char* name, Function function) {
  object.Set(name, Napi::Function::New(object.Env(), std::move(function), name));
}

inline void check(Napi::Env env, const Status& status) {
  if (status.code == StatusCode::outOfMemory) throw Napi::RangeError::New(env, status.message);
  if (!status.ok()) throw Napi::Error::New(env, status.message);
}

inline Napi::Object advantageResult(Napi::Env env, const AdvantageRequest& request, const AdvantageMetrics& m) {
  Napi::Object result = Napi::Object::New(env), metrics = Napi::Object::New(env);
  writeMetrics(metrics, request, m);
  result.Set("accuracy", m.accuracy);
  result.Set("metrics", metrics);
  return result;
}

// `advantage`: the request of the fused advantages, or null. `entropy`: whether there are logits to have one.
inline Napi::Object lossResult(Napi::Env env, const PolicyRequest& policy, LossMetrics m,
                               const AdvantageRequest* advantage, const AdvantageMetrics& a, bool entropy) {
  Napi::Object result = Napi::Object::New(env), metrics = Napi::Object::New(env);
  if (advantage) {
    result.Set("accuracy", a.accuracy);
    writeMetrics(metrics, *advantage, a);
    m.nonFinite += double(a.nonFinite);
  }
  writeMetrics(metrics, policy, m);
  if (entropy && policy.metrics) metrics.Set("entropy", m.entropy);
  result.Set("loss", m.loss);
  result.Set("metrics", metrics);
  return result;
}

}  // namespace groupgrad::binding
