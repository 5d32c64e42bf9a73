# A program of its own in Ruby: its Procfile names it, it reads its port and answers.
require "json"
require "socket"

me = JSON.parse(ENV.fetch("VCAP_APPLICATION", "{}"))
server = TCPServer.new("0.0.0.0", Integer(ENV.fetch("PORT")))
loop do
  Thread.new(server.accept) do |client|
    path = client.gets.to_s.split[1]
    Process.kill(:KILL, Process.pid) if path == "/crash"
    while (line = client.gets) && line != "\r\n"; end
    body = JSON.generate(
      framework: "standalone", name: me["name"], version: me["version"], instance: me["instance_index"],
      instance_id: me["instance_id"], dea: ENV["VCAP_APP_HOST"], port: ENV["PORT"], runtime: RUBY_VERSION,
      greeting: ENV["GREETING"]
    ) + "\n"
    client.write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}")
  ensure
    client.close
  end
end
