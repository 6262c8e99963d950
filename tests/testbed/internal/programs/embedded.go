//go:build !assets

package programs

import (
	"errors"
	"os"
	_ "time/tzdata" // CronJob time zones in kube-controller-manager

	"go.etcd.io/etcd/server/v3/etcdmain"
	helm "helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's auth plugins
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics on /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build_info on /metrics
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// embedded maps a program's name to its entry point. Each expects os.Args as the real program would see it.
var embedded = map[string]func(){
	Etcd:                  func() { etcdmain.Main(os.Args) },
	KubeAPIServer:         func() { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) },
	KubeControllerManager: func() { os.Exit(cli.Run(controllermanager.NewControllerManagerCommand())) },
	Kubectl: func() {
		// The verbosity is wanted while the command tree is still being built, before flags are parsed.
		_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			util.CheckErr(err)
		}
	},
	Helm: func() {
		// The name under which the real program writes fields, whatever this binary is called.
		kube.ManagedFieldsManager = "helm"
		command, err := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
		if err == nil {
			err = command.Execute()
		}
		if failed, ok := errors.AsType[helm.CommandError](err); ok {
			os.Exit(failed.ExitCode)
		}
		if err != nil {
			os.Exit(1)
		}
	},
}
