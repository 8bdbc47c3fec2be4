// Arguments from JavaScript to plain values. src/loss checks everything first and with better words; these checks keep
// memory safe whoever calls. One vocabulary: field, expected, got.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

namespace groupgrad::binding {

// A property that must be there.
Napi::Value get(const Napi::Object& object, const char* field);
Napi::Object getObject(const Napi::Object& object, const char* field);
double getNumber(const Napi::Object& object, const char* field);
bool getBoolean(const Napi::Object& object, const char* field);
std::string getString(const Napi::Object& object, const char* field);
// An integer within [low, high].
int64_t getInteger(const Napi::Object& object, const char* field, int64_t low, int64_t high);
// The index of a string among `names`.
int32_t getChoice(const Napi::Object& object, const char* field, std::initializer_list<const char*> names);

// The product of sizes, or a RangeError where it overflows.
int64_t product(Napi::Env env, const char* what, std::initializer_list<int64_t> sizes);

// The memory of a typed array of exactly this type and length, neither detached nor shared. Null for null where
// allowed.
void* arrayData(const Napi::Value& value, const char* field, napi_typedarray_type type, int64_t length, bool optional);

template <class T>
struct ArrayType;
template <>
struct ArrayType<float> {
  static constexpr napi_typedarray_type value = napi_float32_array;
};
template <>
struct ArrayType<double> {
  static constexpr napi_typedarray_type value = napi_float64_array;
};
template <>
struct ArrayType<int32_t> {
  static constexpr napi_typedarray_type value = napi_int32_array;
};
template <>
struct ArrayType<uint8_t> {
  static constexpr napi_typedarray_type value = napi_uint8_array;
};
template <>
struct ArrayType<uint16_t> {
  static constexpr napi_typedarray_type value = napi_uint16_array;
};

template <class T>
T* getArray(const Napi::Object& object, const char* field, int64_t length) {
  return static_cast<T*>(arrayData(get(object, field), field, ArrayType<T>::value, length, false));
}
template <class T>
T* getOptionalArray(const Napi::Object& object, const char* field, int64_t length) {
  return static_cast<T*>(arrayData(get(object, field), field, ArrayType<T>::value, length, true));
}
// The number of elements of a typed array of this type.
int64_t getLength(const Napi::Object& object, const char* field);

}  // namespace groupgrad::binding
