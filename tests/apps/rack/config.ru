# A Rack application by itself: no Gemfile, Debian's rack and puma do.
require "json"

me = JSON.parse(ENV.fetch("VCAP_APPLICATION", "{}"))

run lambda { |request|
  if request["PATH_INFO"] == "/crash"
    Process.kill(:KILL, Process.pid)
  end
  facts = {
    framework: "rack", name: me["name"], version: me["version"], instance: me["instance_index"],
    instance_id: me["instance_id"], dea: ENV["VCAP_APP_HOST"], port: ENV["PORT"],
    runtime: RUBY_VERSION, mode: ENV["RACK_ENV"], greeting: ENV["GREETING"]
  }
  [200, {"content-type" => "application/json"}, [JSON.generate(facts) + "\n"]]
}
