/** The outputs that the settings name. */
import type { Prefix } from '../../ipref/address.ts'
import type { Config } from '../../resources/config.ts'
import type { ResourceStore } from '../../resources/store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import { ConfigMapOutput } from './configMapOutput.ts'
import { DnsEndpointOutput } from './dnsEndpointOutput.ts'
import type { Output } from './output.ts'
import { zoneKinds, zoneNameOf } from './records.ts'
import { Rfc2136Output } from './rfc2136Output.ts'
import { SerialBook } from './serialBook.ts'
import { ZoneServerOutput } from './zoneServerOutput.ts'

export interface OutputPorts {
  store: ResourceStore
  clock: Clock
  log: Logger
  /** the operator's own */
  namespace: string
  isLeader(): boolean
  /** networks and nodes of the cluster, as they are now */
  inside(): readonly Prefix[]
  /** Objects that an output keeps were changed by somebody. */
  onForeignChange(output: string): void
}

export function outputsOf(config: Config, ports: OutputPorts): Output[] {
  const { store, clock, log, namespace, isLeader, inside } = ports
  const { zoneServer, rfc2136, dnsEndpoint, configMap } = config.publishers
  const serials = new SerialBook(store, namespace)
  const outputs: Output[] = []
  if (zoneServer)
    outputs.push(new ZoneServerOutput(zoneServer, config, { store, serials, isLeader, inside, clock, log, namespace }))
  const lookMs = config.readBack.intervalSeconds * 1000
  for (const one of rfc2136)
    for (const kind of zoneKinds) {
      const zone = zoneNameOf(kind, config)
      if (zone === undefined || (one.zone !== 'both' && one.zone !== kind)) continue
      outputs.push(new Rfc2136Output(one, kind, zone, lookMs, { store, clock, log, namespace }))
    }
  if (dnsEndpoint) {
    const settings = { ...dnsEndpoint, namespace: dnsEndpoint.namespace ?? namespace }
    const output: DnsEndpointOutput = new DnsEndpointOutput(settings, store, () => ports.onForeignChange(output.name))
    outputs.push(output)
  }
  if (configMap) {
    const nameServers = zoneServer?.nameServers ?? []
    const settings = { namespace: configMap.namespace ?? namespace, name: configMap.name, nameServers }
    outputs.push(new ConfigMapOutput(settings, { store, serials, clock }))
  }
  return outputs
}
