// Command base is what a cluster needs whatever its Kubernetes version: etcd, containerd, ctr, helm and kwok, chosen by
// argv[0].  It shares one build with the Kubernetes programs of the newest version, so that their common packages compile once.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	containerd "github.com/containerd/containerd/v2/cmd/containerd/command"
	ctr "github.com/containerd/containerd/v2/cmd/ctr/app"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/etcdmain"
	helm "helm.sh/helm/v4/pkg/cmd"
	helmkube "helm.sh/helm/v4/pkg/kube"
	kwokconfig "sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/signals"

	_ "github.com/containerd/containerd/v2/cmd/containerd/builtins"
)

func main() {
	name := filepath.Base(os.Args[0])
	pflag.CommandLine = pflag.NewFlagSet(name, pflag.ExitOnError)
	var err error
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "containerd":
		err = containerd.App().Run(os.Args)
	case "ctr":
		err = ctr.New().Run(os.Args)
	case "helm":
		err = runHelm()
	case "kwok":
		err = runKwok()
	default:
		err = fmt.Errorf("no program is called %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

func runHelm() error {
	helmkube.ManagedFieldsManager = "helm"
	command, err := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
	if err != nil {
		return err
	}
	return command.Execute()
}

func runKwok() error {
	flags := pflag.NewFlagSet("global", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	ctx, _ := kwoklog.InitFlags(signals.SetupSignalContext(), flags)
	ctx, err := kwokconfig.InitFlags(ctx, flags)
	if err != nil {
		return err
	}
	command := kwok.NewCommand(ctx)
	command.PersistentFlags().AddFlagSet(flags)
	return command.ExecuteContext(ctx)
}
