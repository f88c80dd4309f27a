package main

type sampleCmd struct{}

func (*sampleCmd) Run(*env) error { return nil }
