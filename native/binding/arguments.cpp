#include "arguments.hpp"

#include <cmath>

namespace groupgrad::binding {

namespace {

[[noreturn]] void throwType(Napi::Env env, const char* field, const std::string& expected, const std::string& got) {
  throw Napi::TypeError::New(env, std::string(field) + ": expected " + expected + ", got " + got);
}

[[noreturn]] void throwRange(Napi::Env env, const char* field, const std::string& expected, const std::string& got) {
  throw Napi::RangeError::New(env, std::string(field) + ": expected " + expected + ", got " + got);
}

const char* typeName(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined: return "nothing";
    case napi_null: return "null";
    case napi_boolean: return "a boolean";
    case napi_number: return "a number";
    case napi_string: return "a string";
    case napi_function: return "a function";
    default: return "an object";
  }
}

const char* arrayName(napi_typedarray_type type) {
  switch (type) {
    case napi_float32_array: return "Float32Array";
    case napi_float64_array: return "Float64Array";
    case napi_int32_array: return "Int32Array";
    case napi_uint8_array: return "Uint8Array";
    case napi_uint16_array: return "Uint16Array";
    default: return "typed array of another type";
  }
}

struct ArrayInfo {
  napi_typedarray_type type;
  size_t length;
  void* data;
  Napi::Value buffer;
};

// Runs no JavaScript.
ArrayInfo arrayInfo(const Napi::Value& value) {
  ArrayInfo info{};
  napi_value buffer = nullptr;
  size_t offset = 0;
  if (napi_get_typedarray_info(value.Env(), value, &info.type, &info.length, &info.data, &buffer, &offset) != napi_ok) {
    throw Napi::Error::New(value.Env());
  }
  info.buffer = Napi::Value(value.Env(), buffer);
  return info;
}

constexpr napi_type_tag kDeviceMemoryTag = {0x6772'6f75'7067'7261, 0x642d'6465'7669'6365};

}  // namespace

size_t bytesPerElement(napi_typedarray_type type) {
  switch (type) {
    case napi_float64_array: return 8;
    case napi_float32_array:
    case napi_int32_array: return 4;
    case napi_uint16_array: return 2;
    default: return 1;
  }
}

DeviceMemory* deviceMemory(const Napi::Value& value) {
  bool tagged = false;
  void* memory = nullptr;
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &kDeviceMemoryTag, &tagged) != napi_ok ||
      !tagged || napi_unwrap(value.Env(), value, &memory) != napi_ok) {
    return nullptr;
  }
  return static_cast<DeviceMemory*>(memory);
}

void tagDeviceMemory(const Napi::Object& object, DeviceMemory* memory, napi_finalize finalize) {
  const Napi::Env env = object.Env();
  // In this order: once wrapped, the object owns the memory.
  if (napi_type_tag_object(env, object, &kDeviceMemoryTag) != napi_ok ||
      napi_wrap(env, object, memory, finalize, nullptr, nullptr) != napi_ok) {
    throw Napi::Error::New(env);
  }
}

void* typedArrayMemory(const Napi::Value& value, const char* field, napi_typedarray_type type, int64_t length) {
  const Napi::Env env = value.Env();
  const std::string expected = std::string("a ") + arrayName(type);
  if (!value.IsTypedArray()) throwType(env, field, expected, typeName(value));
  const ArrayInfo info = arrayInfo(value);
  if (info.type != type) throwType(env, field, expected, std::string("a ") + arrayName(info.type));
  if (!info.buffer.IsArrayBuffer()) throwType(env, field, "an array over unshared memory", "one over shared memory");
  if (int64_t(info.length) != length) {
    throwRange(env, field, std::to_string(length) + " values", std::to_string(info.length));
  }
  if (length > 0 && info.data == nullptr) throwType(env, field, "a readable array", "one whose buffer is detached");
  return info.data;
}

Napi::Value get(const Napi::Object& object, const char* field) { return object.Get(field); }

Napi::Object getObject(const Napi::Object& object, const char* field) {
  const Napi::Value value = get(object, field);
  if (!value.IsObject()) throwType(object.Env(), field, "an object", typeName(value));
  return value.As<Napi::Object>();
}

double getNumber(const Napi::Object& object, const char* field) {
  const Napi::Value value = get(object, field);
  if (!value.IsNumber()) throwType(object.Env(), field, "a number", typeName(value));
  return value.As<Napi::Number>().DoubleValue();
}

bool getBoolean(const Napi::Object& object, const char* field) {
  const Napi::Value value = get(object, field);
  if (!value.IsBoolean()) throwType(object.Env(), field, "a boolean", typeName(value));
  return value.As<Napi::Boolean>().Value();
}

std::string getString(const Napi::Object& object, const char* field) {
  const Napi::Value value = get(object, field);
  if (!value.IsString()) throwType(object.Env(), field, "a string", typeName(value));
  return value.As<Napi::String>().Utf8Value();
}

int64_t getInteger(const Napi::Object& object, const char* field, int64_t low, int64_t high) {
  const double number = getNumber(object, field);
  if (!(number >= double(low) && number <= double(high)) || number != std::floor(number)) {
    throwRange(object.Env(), field, "an integer from " + std::to_string(low) + " to " + std::to_string(high),
               std::to_string(number));
  }
  return int64_t(number);
}

int32_t getChoice(const Napi::Object& object, const char* field, std::initializer_list<const char*> names) {
  const std::string value = getString(object, field);
  int32_t index = 0;
  std::string expected = "one of";
  for (const char* name : names) {
    if (value == name) return index;
    expected += (index++ ? ", '" : " '") + std::string(name) + "'";
  }
  throwRange(object.Env(), field, expected, "'" + value + "'");
}

int64_t product(Napi::Env env, const char* what, std::initializer_list<int64_t> sizes) {
  int64_t total = 1;
  for (const int64_t size : sizes) {
    if (__builtin_mul_overflow(total, size, &total)) throwRange(env, what, "a size below 2^63", "more");
  }
  return total;
}

int64_t getLength(const Napi::Object& object, const char* field) {
  const Napi::Value value = get(object, field);
  if (const DeviceMemory* memory = deviceMemory(value)) return memory->length;
  if (!value.IsTypedArray()) throwType(object.Env(), field, "a typed array", typeName(value));
  return int64_t(arrayInfo(value).length);
}

bool Arrays::isOnDevice(std::string_view field) const {
  for (const Note& note : notes_) {
    if (note.field == field) return device_ && !note.here && deviceMemory(note.value);
  }
  return false;
}

void* Arrays::deviceData(const DeviceMemory& memory, const Note& note) const {
  if (!memory.data) throwType(env_, note.field, "a DeviceArray that holds memory", "one that was freed");
  if (memory.owner != device_) throwType(env_, note.field, "a DeviceArray of this device", "one of another");
  if (memory.type != note.type) throwType(env_, note.field, "a DeviceArray of its type", "one of another type");
  if (memory.length != note.length) {
    throwRange(env_, note.field, std::to_string(note.length) + " values", std::to_string(memory.length));
  }
  return memory.data;
}

void Arrays::take(std::string_view inPlace, std::string_view over) {
  for (Note& note : notes_) {
    if (note.optional && note.value.IsNull()) continue;
    const DeviceMemory* memory = device_ && !note.here ? deviceMemory(note.value) : nullptr;
    void* data = memory ? deviceData(*memory, note) : typedArrayMemory(note.value, note.field, note.type, note.length);
    note.begin = static_cast<const char*>(data);
    note.end = note.begin + size_t(note.length) * bytesPerElement(note.type);
    note.assign(data);
  }
  for (const Note& written : notes_) {
    if (!written.written) continue;
    for (const Note& other : notes_) {
      if (&other == &written || !(written.begin < other.end && other.begin < written.end)) continue;
      const bool both = (written.field == inPlace && other.field == over);
      if (both && written.begin == other.begin) continue;
      throwRange(env_, written.field, std::string("memory apart from ") + other.field, "an overlapping range");
    }
  }
}

}  // namespace groupgrad::binding
