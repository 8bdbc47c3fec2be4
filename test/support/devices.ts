// The devices that tests run on, with the reason to skip those that are not there. GROUPGRAD_TEST_DEVICE leaves one alone: where
// tests are run again with another addon, the others would only do again what they have done.

import { type DeviceInfo, devices } from '../../src/index.js';

export interface TestedDevice {
  name: DeviceInfo['name'];
  /** For node:test: why the device cannot be tested here, or false. */
  skip: string | false;
}

const only = process.env.GROUPGRAD_TEST_DEVICE;

export function testedDevices(...names: DeviceInfo['name'][]): TestedDevice[] {
  const known = devices();
  return names.map((name) => {
    const device = known.find((candidate) => candidate.name === name);
    if (only !== undefined && name !== only) return { name, skip: `GROUPGRAD_TEST_DEVICE is ${only}` };
    if (device === undefined) return { name, skip: `there is no device ${name}` };
    return { name, skip: device.available ? false : device.detail };
  });
}
