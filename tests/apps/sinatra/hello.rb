# Sinatra in the classic style, with the gems of the platform's Ruby.
require "json"
require "sinatra"

ME = JSON.parse(ENV.fetch("VCAP_APPLICATION", "{}"))

get "/" do
  content_type :json
  JSON.generate(
    framework: "sinatra", name: ME["name"], version: ME["version"], instance: ME["instance_index"],
    instance_id: ME["instance_id"], dea: ENV["VCAP_APP_HOST"], port: ENV["PORT"],
    runtime: RUBY_VERSION, mode: settings.environment, greeting: ENV["GREETING"]
  ) + "\n"
end

get "/crash" do
  Process.kill(:KILL, Process.pid)
end
