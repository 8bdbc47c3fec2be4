// Runs a bundle of tfjs-core's specs on one backend and writes the result of each to <folder>/<backend>.json:
// `run.mjs <backend> <folder> <bundle>`. A separate process, because jasmine's functions are global.

import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [backend, folder, bundle] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const jasmine = require('jasmine-core').boot();
Object.assign(globalThis, { jasmine });

const results = {};
const environment = jasmine.getEnv();
environment.configure({ random: false });
environment.addReporter({
  specDone({ fullName, status, failedExpectations }) {
    // The backend's name is part of it.
    const name = fullName.replaceAll(` ${backend} {}`, '');
    // Some specs have the same name: it has failed if one of them has.
    if (results[name]?.status === 'failed') return;
    results[name] = { status, message: failedExpectations[0]?.message };
  },
});
require(bundle);
await environment.execute();
writeFileSync(join(folder, `${backend}.json`), JSON.stringify(results));
