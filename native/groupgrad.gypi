{
  # The CPU addon for machines without CMake; CMakeLists.txt is the full build. Paths are relative to the binding.gyp that
  # includes this: the checkout's own, or the one that src/devices/build.ts writes for an installed package. The package brings
  # none along: pnpm and yarn would take it for a reason to build at installation.
  'variables': { 'version': '<!(node -p "require(\'./package.json\').version")' },
  'targets': [
    {
      'target_name': 'groupgrad',
      'sources': [
        'native/binding/addon.cpp',
        'native/binding/arguments.cpp',
        'native/binding/cuda.cpp',
        'native/binding/engine.cpp',
        'native/binding/requests.cpp',
        'native/binding/tensorflow.cpp',
        'native/cpu/device.cpp',
        'native/cpu/kernels_avx2.cpp',
        'native/cpu/kernels_avx512.cpp',
        'native/cpu/kernels_baseline.cpp',
        'native/cpu/thread_pool.cpp',
        'native/engine/cpu/copy.cpp',
        'native/engine/cpu/elementwise.cpp',
        'native/engine/cpu/table.cpp',
        'native/engine/cpu/gather.cpp',
        'native/engine/cpu/kernels_amx.cpp',
        'native/engine/cpu/kernels_avx2.cpp',
        'native/engine/cpu/kernels_avx512.cpp',
        'native/engine/cpu/kernels_avx512bf16.cpp',
        'native/engine/cpu/kernels_baseline.cpp',
        'native/engine/cpu/matmul.cpp',
        'native/engine/cpu/reduce.cpp',
        'native/tensorflow/api.cpp',
        'native/tensorflow/buffers.cpp',
        'native/tensorflow/gpu.cpp',
        'native/tensorflow/kernels.cpp',
        'native/tensorflow/packing.cpp',
        'native/tensorflow/registration.cpp',
      ],
      'dependencies': [ '<!(node -p "require(\'node-addon-api\').targets"):node_addon_api_except_all' ],
      'defines': [
        'NAPI_VERSION=8', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS', 'GROUPGRAD_VERSION="<(version)"',
      ],
      'cflags_cc!': [ '-std=gnu++17', '-std=gnu++20', '-fno-rtti' ],
      'cflags_cc': [
        '-std=c++20', '-O3', '-fno-math-errno', '-fno-trapping-math', '-fvisibility=hidden',
        '-Wall', '-Wextra', '-Wno-psabi',
      ],
      'xcode_settings': {
        'CLANG_CXX_LANGUAGE_STANDARD': 'c++20',
        'GCC_ENABLE_CPP_EXCEPTIONS': 'YES',
        'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
        'GCC_OPTIMIZATION_LEVEL': '3',
        'OTHER_CPLUSPLUSFLAGS': [ '-fno-math-errno', '-fno-trapping-math' ],
        'MACOSX_DEPLOYMENT_TARGET': '12.0',
      },
    },
  ],
}
