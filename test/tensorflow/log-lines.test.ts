// TF_CPP_MIN_LOG_LEVEL applies to TensorFlow's messages from the first line on; by itself, TensorFlow 2.21 reads the
// variable after it has logged some. Tested with TensorFlow, and with stand-ins for its libraries.

import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import test, { describe } from 'node:test';
import { pathToFileURL } from 'node:url';
import { exists, outputOf, root, run, typescript, withFolder } from '../support/native.js';
import { noTensorflow } from '../support/tensorflow.js';

const { compileCommand, linkFlags } = (await import(
  pathToFileURL(join(root, 'scripts', 'log-level-library.mjs')).href
)) as { compileCommand: (folder: string) => string[]; linkFlags: string[] };

type Level = string | undefined;

function environment(level: Level): NodeJS.ProcessEnv {
  const { TF_CPP_MIN_LOG_LEVEL: _, ...env } = process.env;
  return level === undefined ? env : { ...env, TF_CPP_MIN_LOG_LEVEL: level };
}

/** What a JavaScript program writes to standard error. It must end with exit code 0. */
function errorsOf(program: string, level?: Level): string {
  const args = [...typescript, '--input-type=module', '-e', program];
  const result = run(process.execPath, args, { env: environment(level), timeout: 120 });
  assert.equal(result.status, 0, outputOf(result));
  return result.stderr;
}

const start = `
  const { startBackend } = await import('./src/backend/backend.js');
  await startBackend('tensorflow');`;
const compute = `
  const tf = await import('@tensorflow/tfjs-core');
  tf.matMul(tf.ones([8, 8]), tf.ones([8, 8])).dataSync();`;
const directly = `
  const util = (await import('node:util')).default;
  util.isNullOrUndefined ??= (value) => value === undefined || value === null;
  util.isArray ??= Array.isArray;
  await import('@tensorflow/tfjs-node');`;
const inWorker = `
  const { Worker } = await import('node:worker_threads');
  const { once } = await import('node:events');
  const workerData = { root: process.cwd() };
  const [code] = await once(new Worker('./test/support/tensorflow-worker.mjs', { workerData, execArgv: ${JSON.stringify(typescript)} }), 'exit');
  process.exitCode = code;`;

/** Why the log level of the package's TensorFlow is not ours, or false. */
function otherTensorflow(): string | false {
  const packages = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'];
  const require = createRequire(import.meta.url);
  const folders = packages.flatMap((name) => {
    const manifest = `${name}/package.json`;
    return require.resolve.paths(manifest)?.map((path) => join(path, dirname(manifest))) ?? [];
  });
  const library = join('deps', 'lib', 'libgroupgrad_log_level.so');
  return folders.some((folder) => existsSync(join(folder, library)))
    ? false
    : 'this TensorFlow is not from a wheel (npm run setup:tensorflow -- --wheel)';
}

describe('the lines of TensorFlow', { skip: noTensorflow }, () => {
  test('none, if the trainer or the command line loads it', () => {
    assert.equal(errorsOf(start + compute), '');
  });

  test('all of them for a user who asks for all', () => {
    const lines = errorsOf(start + compute, '0');
    assert.match(lines, /cpu_feature_guard\.cc/);
    assert.match(lines, /^(I0000 |\d{4}-.*: I )/m);
  });

  test('no informational ones, if a program or a worker thread loads it', { skip: otherTensorflow() }, () => {
    assert.equal(errorsOf(directly + compute), '');
    assert.equal(errorsOf(inWorker), '');
    assert.match(errorsOf(inWorker, '0'), /^I0000 .* cpu_feature_guard\.cc/m);
  });
});

/** A stand-in for libtensorflow_framework: logs while it is loaded, and reads the variable only then. */
const framework = `
  #include <cstdio>
  #include <cstdlib>
  namespace absl::inline NAMESPACE {
  enum class LogSeverityAtLeast : int {};
  static int level = 0;
  void SetMinLogLevel(LogSeverityAtLeast least) { level = int(least); }
  }
  static void log(int severity, const char* text) {
    if (severity >= absl::level) std::fprintf(stderr, "%s\\n", text);
  }
  [[gnu::constructor]] static void load() {
    log(0, "information");
    log(1, "warning");
    log(2, "error");
    if (std::getenv("ABORTS")) std::abort();
  }
`;
const binding = 'extern "C" int binding() { return 0; }\n';
const host = `
  #include <dlfcn.h>
  #include <cstdio>
  int main(int, char** arguments) {
    if (dlopen(arguments[1], RTLD_LAZY)) return 0;
    std::fprintf(stderr, "%s\\n", dlerror());
    return 1;
  }
`;

const noBuild =
  process.platform !== 'linux' ? 'TensorFlow from a wheel is for Linux' : !exists('g++') && 'g++ was not found';

describe('the level before the first line', { skip: noBuild }, () => {
  /** Builds a program that loads a binding like node does, with a stand-in for TensorFlow, and returns a function that runs it. */
  function withStandIn(
    namespace: string,
    body: (load: (level: Level, env?: NodeJS.ProcessEnv) => ReturnType<typeof run>) => void,
  ) {
    withFolder((folder) => {
      const build = (command: readonly string[]) => {
        const result = run(command[0], command.slice(1), { cwd: folder });
        assert.equal(result.status, 0, outputOf(result));
      };
      const compile = (name: string, source: string, ...flags: string[]) => {
        writeFileSync(join(folder, `${name}.cpp`), source);
        build(['g++', '-std=c++20', `${name}.cpp`, ...flags]);
      };
      const shared = ['-shared', '-fPIC', '-o'];
      build(compileCommand(folder));
      compile('framework', framework, `-DNAMESPACE=${namespace}`, ...shared, 'libframework.so');
      const libraries = ['-Wl,--no-as-needed', `-L${folder}`, '-lframework', '-Wl,-rpath,$ORIGIN'];
      compile('binding', binding, ...shared, 'binding.node', ...linkFlags, ...libraries);
      compile('host', host, '-o', 'host', '-ldl');
      body((level, env) =>
        run(join(folder, 'host'), [join(folder, 'binding.node')], { env: { ...environment(level), ...env } }),
      );
    });
  }

  test('is that of the variable; without it, informational lines are not logged', () => {
    withStandIn('lts_20250814', (load) => {
      const all = 'information\nwarning\nerror\n';
      const expected: [Level, string][] = [
        [undefined, 'warning\nerror\n'],
        ['0', all],
        ['1', 'warning\nerror\n'],
        ['2', 'error\n'],
        ['3', ''],
        ['-1', all],
        ['many', all],
        ['2x', all],
      ];
      for (const [level, lines] of expected) {
        const result = load(level);
        assert.equal(result.status, 0, outputOf(result));
        assert.equal(result.stderr, lines, `TF_CPP_MIN_LOG_LEVEL=${level}`);
      }
    });
  });

  test('errors reach the terminal if loading ends the process', () => {
    withStandIn('lts_20250814', (load) => {
      const result = load('2', { ABORTS: '1' });
      assert.equal(result.signal, 'SIGABRT');
      assert.equal(result.stderr, 'error\n');
    });
  });

  test('is not changed in a TensorFlow with another Abseil', () => {
    withStandIn('lts_20990101', (load) => {
      const result = load('2');
      assert.equal(result.status, 0, outputOf(result));
      assert.equal(result.stderr, 'information\nwarning\nerror\n');
    });
  });
});
