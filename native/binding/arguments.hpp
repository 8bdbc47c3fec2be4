// Converts arguments from JavaScript to plain values. src/loss checks everything first, with better messages; these
// checks keep memory safe for any caller. Errors have a common form: field, expected, got.
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace groupgrad::binding {

// A required property.
Napi::Value get(const Napi::Object& object, const char* field);
Napi::Object getObject(const Napi::Object& object, const char* field);
double getNumber(const Napi::Object& object, const char* field);
bool getBoolean(const Napi::Object& object, const char* field);
std::string getString(const Napi::Object& object, const char* field);
// An integer within [low, high].
int64_t getInteger(const Napi::Object& object, const char* field, int64_t low, int64_t high);
// The index of a string among `names`.
int32_t getChoice(const Napi::Object& object, const char* field, std::initializer_list<const char*> names);

// The product of sizes, or a RangeError if it overflows.
int64_t product(Napi::Env env, const char* what, std::initializer_list<int64_t> sizes);

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

// Memory of a device, behind an object that JavaScript holds: DeviceArray's, in src/devices/device-array.ts.
struct DeviceMemory {
  void* data = nullptr;  // null: freed
  int64_t length = 0;
  napi_typedarray_type type = napi_float32_array;  // what holds its values on the host
  const void* owner = nullptr;                     // the device's state in this environment
};
// The object's memory, or null if it is not such an object.
DeviceMemory* deviceMemory(const Napi::Value& value);
// Attaches memory to an empty object.
void tagDeviceMemory(const Napi::Object& object, DeviceMemory* memory, napi_finalize finalize);
// The memory layout of this type.
size_t bytesPerElement(napi_typedarray_type type);

// The memory of a typed array of this type and length.
void* typedArrayMemory(const Napi::Value& value, const char* field, napi_typedarray_type type, int64_t length);

// The number of elements of a typed array or of device memory.
int64_t getLength(const Napi::Object& object, const char* field);

// The typed arrays of one call. Reading a property may run JavaScript (a getter, a proxy) that detaches or shrinks an
// array that was read before. So arrays are recorded while properties are read, and their memory is taken once all
// have been read.
class Arrays {
 public:
  // `device`: the owner of device memory that may replace a typed array, or null.
  explicit Arrays(Napi::Env env, const void* device = nullptr) : env_(env), device_(device) {}

  // `target` becomes the memory of the array at take(), of exactly this length. Null for null if `optional`.
  template <class T>
  void read(const T*& target, const Napi::Object& object, const char* field, int64_t length, bool optional = false) {
    note(get(object, field), field, ArrayType<T>::value, length, optional, false,
         [&target](void* data) { target = static_cast<const T*>(data); });
  }
  // The same for an array that the call writes to.
  template <class T>
  void write(T*& target, const Napi::Object& object, const char* field, int64_t length, bool optional = false) {
    note(get(object, field), field, ArrayType<T>::value, length, optional, true,
         [&target](void* data) { target = static_cast<T*>(data); });
  }
  // The same for an array that is read on the host, not on a device.
  template <class T>
  void readHere(const T*& target, const Napi::Object& object, const char* field, int64_t length) {
    read(target, object, field, length);
    notes_.back().here = true;
  }
  bool allowsDevice() const { return device_ != nullptr; }
  // Whether a recorded array is on the device.
  bool isOnDevice(std::string_view field) const;

  // Checks that every array is of its type and length, neither detached nor shared, and that no output overlaps
  // another array: values that are read twice, such as token ids, would change in between. `inPlace` names the one
  // that may share the memory of the array `over`.
  void take(std::string_view inPlace = {}, std::string_view over = {});

 private:
  struct Note {
    Napi::Value value;
    const char* field;
    napi_typedarray_type type;
    int64_t length;
    bool optional;
    bool written;
    bool here;
    std::function<void(void*)> assign;
    const char* begin;
    const char* end;
  };
  void note(Napi::Value value, const char* field, napi_typedarray_type type, int64_t length, bool optional,
            bool written, std::function<void(void*)> assign) {
    notes_.push_back({value, field, type, length, optional, written, false, std::move(assign), nullptr, nullptr});
  }

  void* deviceData(const DeviceMemory& memory, const Note& note) const;

  Napi::Env env_;
  const void* device_;
  std::vector<Note> notes_;
};

}  // namespace groupgrad::binding
