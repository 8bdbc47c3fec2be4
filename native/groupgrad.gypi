{
  # The CPU addon for machines without CMake; CMakeLists.txt is the full build. gyp takes paths as relative to this file. It is
  # included by a binding.gyp: the checkout's own, or the one that src/devices/build.ts writes for an installed package, which
  # brings none along: pnpm and yarn would take it for a reason to build at installation.
  'variables': { 'version': '<!(node -p "require(\'./package.json\').version")' },
  'targets': [
    {
      'target_name': 'groupgrad',
      'sources': [
        'binding/addon.cpp',
        'binding/arguments.cpp',
        'binding/cuda.cpp',
        'binding/engine.cpp',
        'binding/requests.cpp',
        'binding/tensorflow.cpp',
        'cpu/device.cpp',
        'cpu/kernels_avx2.cpp',
        'cpu/kernels_avx512.cpp',
        'cpu/kernels_baseline.cpp',
        'cpu/thread_pool.cpp',
        'engine/cpu/copy.cpp',
        'engine/cpu/elementwise.cpp',
        'engine/cpu/table.cpp',
        'engine/cpu/gather.cpp',
        'engine/cpu/kernels_amx.cpp',
        'engine/cpu/kernels_avx2.cpp',
        'engine/cpu/kernels_avx512.cpp',
        'engine/cpu/kernels_avx512bf16.cpp',
        'engine/cpu/kernels_baseline.cpp',
        'engine/cpu/matmul.cpp',
        'engine/cpu/reduce.cpp',
        'tensorflow/api.cpp',
        'tensorflow/buffers.cpp',
        'tensorflow/gpu.cpp',
        'tensorflow/kernels.cpp',
        'tensorflow/packing.cpp',
        'tensorflow/registration.cpp',
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
