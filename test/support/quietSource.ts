/** Ports of a KubeSource whose gateway takes everything, does nothing with it, and has nothing to report: for tests that are about the source itself. */
import type { Observation } from '../../gateway/kube/report.ts'
import type { KubePorts } from '../../gateway/kube/source.ts'
import { systemClock } from '../../runtime/clock.ts'
import { silentLog } from './silentLog.ts'

export const quietObservation: Observation = {
  version: '0',
  nodeAddresses: [],
  publicAddresses: [],
  tunMtu: undefined,
  offloads: [],
  peers: [],
  unready: [],
  nodeNetwork: undefined,
  refusal: undefined,
}

export function quietSourcePorts(store: KubePorts['store'], more: Partial<KubePorts> = {}): KubePorts {
  return {
    store,
    clock: systemClock,
    log: silentLog,
    random: Math.random,
    setAssertions: async () => [],
    setPolicy: () => true,
    setPeers: () => {},
    setNetwork: () => {},
    setDomains: () => {},
    observe: () => quietObservation,
    onReleased: () => {},
    ...more,
  }
}
