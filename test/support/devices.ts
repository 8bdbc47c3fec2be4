// The devices that tests run on, with the reason to skip unavailable ones.

import { type DeviceInfo, devices } from '../../src/index.js';

export interface TestedDevice {
  name: DeviceInfo['name'];
  /** For node:test: why the device cannot be tested here, or false. */
  skip: string | false;
}

export function testedDevices(...names: DeviceInfo['name'][]): TestedDevice[] {
  const known = devices();
  return names.map((name) => {
    const device = known.find((candidate) => candidate.name === name);
    if (device === undefined) return { name, skip: `there is no device ${name}` };
    return { name, skip: device.available ? false : device.detail };
  });
}
