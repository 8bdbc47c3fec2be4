// A call of an engine's operation from JavaScript: its arguments, and the operation as a function there.
#pragma once

#include <napi.h>

#include <cmath>
#include <span>
#include <string>

#include "../engine/operations.hpp"
#include "arguments.hpp"
#include "functions.hpp"

namespace groupgrad::binding {

// A device's operations with its state; a second device would pass its own to the same functions.
struct Engine {
  void* state;
  const engine::Operations* operations;
};

struct Array {
  napi_typedarray_type type;
  int64_t length;
  void* data;

  int64_t bytes() const { return length * int64_t(bytesPerElement(type)); }
  bool overlaps(const Array& other) const {
    const char *a = static_cast<const char*>(data), *b = static_cast<const char*>(other.data);
    return a < b + other.bytes() && b < a + bytes();
  }
};

// The arguments of a call: first a Float64Array of numbers, which are read in order, then typed arrays. Nothing
// here runs JavaScript, so memory does not move.
class Call {
 public:
  explicit Call(const Napi::CallbackInfo& info) : info_(info), env_(info.Env()) {
    const Array numbers = array(0, "numbers", 0);
    if (numbers.type != napi_float64_array) fail<Napi::TypeError>("numbers", "a Float64Array", "another type");
    numbers_ = {static_cast<const double*>(numbers.data), size_t(numbers.length)};
  }

  Napi::Env env() const { return env_; }

  double number(const char* field) {
    if (next_ >= numbers_.size()) fail<Napi::RangeError>(field, "a number", "none");
    return numbers_[next_++];
  }
  int64_t integer(const char* field, int64_t low, int64_t high) {
    const double value = number(field);
    if (!(value >= double(low) && value <= double(high)) || value != std::floor(value)) {
      fail<Napi::RangeError>(field, "an integer from " + std::to_string(low) + " to " + std::to_string(high),
                             std::to_string(value));
    }
    return int64_t(value);
  }
  int64_t size(const char* field) { return integer(field, 0, kLargest); }
  int64_t positive(const char* field) { return integer(field, 1, kLargest); }
  int64_t stride(const char* field) { return integer(field, -kLargest, kLargest); }
  std::span<const double> numbers(const char* field, int64_t count) {
    if (count > int64_t(numbers_.size() - next_))
      fail<Napi::RangeError>(field, std::to_string(count) + " numbers", "fewer");
    const auto result = numbers_.subspan(next_, size_t(count));
    next_ += size_t(count);
    return result;
  }
  int64_t product(const char* field, std::initializer_list<int64_t> sizes) const {
    return binding::product(env_, field, sizes);
  }

  // A typed array of at least `length` elements, neither detached nor shared.
  Array array(size_t index, const char* field, int64_t length) const {
    if (index >= info_.Length() || !info_[index].IsTypedArray()) {
      fail<Napi::TypeError>(field, "a typed array", "something else");
    }
    Array result{};
    size_t elements = 0, offset = 0;
    napi_value buffer = nullptr;
    bool own = false;
    if (napi_get_typedarray_info(env_, info_[index], &result.type, &elements, &result.data, &buffer, &offset) !=
            napi_ok ||
        napi_is_arraybuffer(env_, buffer, &own) != napi_ok) {
      throw Napi::Error::New(env_);
    }
    result.length = int64_t(elements);
    if (!own) fail<Napi::TypeError>(field, "an array over unshared memory", "one over shared memory");
    if (result.length < length) {
      fail<Napi::RangeError>(field, "at least " + std::to_string(length) + " values", std::to_string(result.length));
    }
    return result;
  }
  template <class T>
  T* values(size_t index, const char* field, int64_t length) const {
    const Array result = array(index, field, length);
    if (result.type != ArrayType<std::remove_const_t<T>>::value) wrongType(field);
    return static_cast<T*>(result.data);
  }
  // Values of 1 or 4 bytes.
  Array words(size_t index, const char* field, int64_t length) const {
    const Array result = array(index, field, length);
    if (result.type != napi_float32_array && result.type != napi_int32_array && result.type != napi_uint8_array) {
      wrongType(field);
    }
    return result;
  }
  bool isNull(size_t index) const { return index >= info_.Length() || info_[index].IsNull(); }
  Napi::Value value(size_t index) const { return info_[index]; }
  size_t length() const { return info_.Length(); }

  [[noreturn]] void wrongType(const char* field) const {
    fail<Napi::TypeError>(field, "an array of its type", "another type");
  }
  template <class Error>
  [[noreturn]] void fail(const char* field, const std::string& expected, const std::string& got) const {
    throw Error::New(env_, std::string(field) + ": expected " + expected + ", got " + got);
  }

 private:
  static constexpr int64_t kLargest = (int64_t(1) << 53) - 1;

  const Napi::CallbackInfo& info_;
  Napi::Env env_;
  std::span<const double> numbers_;
  size_t next_ = 0;
};

template <class Function>
void addOperation(Napi::Object& exports, const char* name, const Engine& e, Function function) {
  setMethod(exports, name, [e, function](const Napi::CallbackInfo& info) {
    Call call(info);
    function(e, call);
  });
}

// The primitives of a transformer and the optimiser (transformer.cpp).
void addTransformerOperations(Napi::Object& exports, const Engine& e);

}  // namespace groupgrad::binding
