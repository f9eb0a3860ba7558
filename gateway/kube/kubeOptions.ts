/** The options of `ipref gateway` that make it one of a cluster's, or one that reads the same objects from a folder. */
import { hostname } from 'node:os'
import type { Option, SettingsReader } from '../../runtime/settings.ts'

export interface KubeConfig {
  from: { manifests: string } | { kubeconfig: string | undefined }
  /** name of our IprefGateway */
  name: string
  /** our IprefGateway is made by us: there is no node that it is for */
  isAlone: boolean
  namespace: string
  uplinkPort: number
}

export const kubeOptions: readonly Option[] = [
  {
    name: 'kube',
    kind: 'boolean',
    standard: false,
    help: 'a gateway of a cluster: IprefService and IprefPeer objects become mappings and policy',
  },
  {
    name: 'kubeconfig',
    kind: 'text',
    value: 'FILE',
    help: 'how to reach the cluster; default: $KUBECONFIG, ~/.kube/config, or the service account of the pod',
  },
  {
    name: 'manifests',
    kind: 'text',
    value: 'FOLDER',
    help: 'the same without a cluster: objects from YAML files in this folder, which ipref operator -manifests looks after',
  },
  {
    name: 'node',
    kind: 'text',
    value: 'NAME',
    help: 'name of our IprefGateway: the node; default: the name of this host',
  },
  {
    name: 'kube-namespace',
    kind: 'text',
    standard: 'ipref',
    value: 'NAMESPACE',
    help: "the operator's namespace",
  },
  {
    name: 'uplink-port',
    kind: 'number',
    standard: 1048,
    least: 1,
    most: 65535,
    value: 'PORT',
    help: 'TCP port on node addresses where gateways of a single uplink give each other their mappings',
  },
]

/** undefined: no objects are read. */
export function readKubeSettings(settings: SettingsReader): KubeConfig | undefined {
  const optional = (name: string) => settings.values(name).at(-1)?.text
  const [manifests, kubeconfig] = [optional('manifests'), optional('kubeconfig')]
  const isInCluster = settings.boolean('kube') || kubeconfig !== undefined
  if (manifests !== undefined && isInCluster)
    settings.problem('-manifests: objects come from a folder or from a cluster; leave -kube and -kubeconfig out')
  if (manifests === undefined && !isInCluster) return undefined
  return {
    from: manifests === undefined ? { kubeconfig } : { manifests },
    name: optional('node') ?? hostname().toLowerCase(),
    isAlone: manifests !== undefined && !settings.has('node'),
    namespace: settings.text('kube-namespace'),
    uplinkPort: settings.number('uplink-port')!,
  }
}
