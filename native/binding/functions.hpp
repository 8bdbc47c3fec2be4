// Arguments and errors shared by the functions that JavaScript calls.
#pragma once

#include <napi.h>

#include <string>

#include "../core/device.hpp"

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

}  // namespace groupgrad::binding
